"""How the hospitals' changes are put together, and what noise in them is worth."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.manifest import Manifest, Privacy
from contracts.refusal import Refusal
from manifest_summary.facts import Fact, _
from manifest_summary.words import duration, word
from privacy_accounting.epsilon import epsilon, planned


def averaging(manifest: Manifest, rows: Sequence[int | None]) -> list[Fact]:
    """Rule, bounds, noise. `rows`: training rows of hospitals, as far as the reader knows them (None: not);
    epsilon is that of the worst."""
    rules = manifest.aggregation
    if manifest.split is not None:
        return [*_batches(manifest.split.batches), *_memory(checkpointing=manifest.split.checkpointing)]
    means = {
        "fedavg": _("the mean of every parameter, by number of rows"),
        "ffa-lora": _("the mean of LoRA's B, by number of rows; its A stays as it was drawn"),
        "stack-svd": _("the mean of the LoRA products B·A, and from it the best factors of the same rank"),
    }
    facts = [Fact(_("Averaging"), f"{word(rules.rule)}: {means[rules.rule]}")]
    if rules.clip is not None:
        facts.append(Fact(_("A hospital's change in a round is clipped to (L2 norm)"), f"{rules.clip:g}"))
    if rules.max_samples is not None:
        facts.append(Fact(_("A hospital counts for at most (rows)"), f"{rules.max_samples:,}"))
    if rules.privacy is None:
        return [*facts, Fact(_("Noise"), _("none: the parameters may remember single texts"))]
    return [*facts, *_noise(rules.privacy, manifest, rows)]


def _batches(batches: str) -> list[Fact]:
    how = {
        "pooled": _("each is drawn from the features of all hospitals"),
        "per-site": _("one tail for each hospital, averaged after each round"),
    }
    return [Fact(_("Batches"), how[batches])]


def _memory(*, checkpointing: bool) -> list[Fact]:
    again = _("activations are computed again in the backward pass")
    return [Fact(_("To save memory"), again)] if checkpointing else []


def _noise(privacy: Privacy, manifest: Manifest, rows: Sequence[int | None]) -> list[Fact]:
    told = {"noise": privacy.noise, "delta": privacy.delta, "clip": privacy.gradient_clip}
    if privacy.unit == "site":
        noise = _("%(noise)g sensitivities on each mean, drawn in the aggregator's enclave")
        unit = _(
            "per hospital, at delta %(delta)g: whether any one hospital's changes are in it, not single rows "
            "of large hospitals"
        )
        counts: Sequence[int | None] = (1,)  # rows do not matter to this unit
    else:
        noise = _(
            "%(noise)g sensitivities on each step, in the hospital's enclave; a row's gradient is clipped to "
            "%(clip)g"
        )
        unit = _(
            "per row, at delta %(delta)g: whether any one row was used; a patient with several rows is "
            "hidden less"
        )
        counts = rows
    meaning = _(
        "whoever sees the parameters can be surer of it by the factor exp(epsilon), no more; scores on test "
        "rows are not covered"
    )
    return [
        Fact(_("Noise"), noise % told),
        Fact(_("What epsilon is about"), unit % told),
        Fact(_("What epsilon means"), meaning),
        Fact(_("Epsilon after the last round, at most"), _worst(privacy, manifest, counts)),
    ]


def _worst(privacy: Privacy, manifest: Manifest, rows: Sequence[int | None]) -> str:
    known = [count for count in rows if count is not None]
    if not known or len(known) < len(rows):
        return _("not known: a number of training rows is hidden")
    try:
        worst = max(epsilon(planned(privacy, manifest.training, count), privacy.delta) for count in known)
    except Refusal as refusal:
        return refusal.code
    return f"{worst:.3g}"


def rounds(manifest: Manifest) -> list[Fact]:
    """What a round needs, how long it waits, how often an enclave may begin."""
    rules, count = manifest.aggregation, len(manifest.sites)
    quorum = _("%(quorum)d of %(count)d hospitals") % {"quorum": rules.quorum, "count": count}
    return [
        Fact(_("A round needs"), quorum),
        Fact(_("A round waits for"), duration(rules.deadline_seconds)),
        Fact(_("A hospital's enclave may begin"), _("%(n)d times in the run") % {"n": rules.lives}),
    ]
