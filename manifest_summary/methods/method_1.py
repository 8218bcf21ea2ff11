"""Method 1 in words: tuned parameters leave in every round, sealed, and are averaged."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.manifest import Manifest, ServerOptimizer
from manifest_summary.facts import Fact, _
from manifest_summary.formatting import word
from manifest_summary.noise import noise
from translations.numbers import number


def sent(manifest: Manifest) -> str:
    """Tuned parameters; no text."""
    if manifest.placement == "plaintext":
        return _("no text: the tuned parameters in every round, UNPROTECTED")
    return _("no text: in every round the tuned parameters, sealed, and numbers (rows used, sizes, times)")


def opened_by(manifest: Manifest) -> str:
    """The aggregator, or everybody."""
    if manifest.placement == "plaintext":
        return _("the coordinator's operator and the other hospitals: nothing is sealed")
    return _(
        "the attested aggregator's enclave alone; the mean that it makes, also the enclaves of the run's "
        "hospitals"
    )


def ever() -> str:
    """Updates."""
    return _(
        "in a study by Method 1: tuned parameters, sealed (in a marked baseline on public data, in plain); "
        "they are made from patients' texts and hold none"
    )


def where(manifest: Manifest) -> list[Fact]:
    """All of it, or with an accelerator beside it, or none."""
    return [Fact(_("Placement"), word(manifest.placement))]


def begins(manifest: Manifest) -> list[Fact]:
    """A restart of a client slice is another instance."""
    return [
        Fact(
            _("A hospital's enclave may begin"),
            _("%(n)d times in the run") % {"n": manifest.aggregation.instances},
        )
    ]


def leaving(manifest: Manifest) -> list[Fact]:
    """Tuned parameters, sealed, but for the baseline in plaintext."""
    if manifest.placement == "plaintext":
        update = _("the tuned parameters, UNPROTECTED, for the coordinator and the other hospitals")
    else:
        update = _(
            "the tuned parameters and the counts of right answers on held-out rows, sealed to the attested "
            "aggregator"
        )
    facts = [Fact(_("In every round"), update)]
    if manifest.front is not None:
        unproven = _(
            "that all of another hospital's features are of the rows that it lists; they are fixed before "
            "the first round, and a sample is computed again"
        )
        facts.append(Fact(_("Not proven"), unproven))
    return facts


def never(manifest: Manifest) -> str:
    """Rows; tuned parameters where they are sealed."""
    if manifest.placement == "plaintext":
        return _("rows, labels of rows, texts")
    return _("rows, labels of rows, texts; tuned parameters that anyone outside an enclave can read")


def joining(manifest: Manifest, rows: Sequence[int | None]) -> list[Fact]:
    """The rule of averaging, its bounds, and noise."""
    rules = manifest.aggregation
    means = {
        "fedavg": _("the mean of every parameter, by number of rows"),
        "ffa-lora": _("the mean of LoRA's B, by number of rows; its A stays as it was drawn"),
        "stack-svd": _("the mean of the LoRA products B·A, and from it the best factors of the same rank"),
    }
    facts = [Fact(_("Averaging"), f"{word(rules.rule)}: {means[rules.rule]}")]
    if rules.clip is not None:
        facts.append(
            Fact(_("A hospital's change in a round is clipped to (L2 norm)"), number(f"{rules.clip:g}"))
        )
    if rules.max_samples is not None:
        facts.append(Fact(_("A hospital counts for at most (rows)"), number(f"{rules.max_samples:,}")))
    if rules.optimizer is not None:
        facts.append(Fact(_("The next round's parameters"), _step(rules.optimizer)))
    if rules.privacy is None:
        return [*facts, Fact(_("Noise"), _("none: the parameters may remember single texts"))]
    return [*facts, *noise(rules.privacy, manifest, rows)]


def _step(optimizer: ServerOptimizer) -> str:
    """What the aggregator's enclave makes of the mean."""
    text = _("a step of %(name)s towards the mean: learning rate %(rate)s, momentum %(beta)s") % {
        "name": word(optimizer.kind),
        "rate": number(f"{optimizer.learning_rate:g}"),
        "beta": number(f"{optimizer.beta1:g}"),
    }
    if optimizer.beta2 is None or optimizer.tau is None:
        return text
    adapted = {"beta": number(f"{optimizer.beta2:g}"), "tau": number(f"{optimizer.tau:g}")}
    return text + _(", β₂ %(beta)s, τ %(tau)s") % adapted
