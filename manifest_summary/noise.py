"""What noise in the hospitals' changes is worth."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.manifest import Manifest, Privacy
from contracts.refusal import Refusal
from manifest_summary.facts import Fact, _
from privacy_accounting.epsilon import epsilon, planned
from translations.numbers import number


def noise(privacy: Privacy, manifest: Manifest, rows: Sequence[int | None]) -> list[Fact]:
    """How much, where it is drawn, what epsilon is about and how large it becomes. `rows`: as
    `manifest_summary.summary` takes them."""
    texts = {
        "noise": number(f"{privacy.noise:g}"),
        "delta": number(f"{privacy.delta:g}"),
        "clip": number(f"{privacy.gradient_clip or 0:g}"),
    }
    if privacy.unit == "site":
        drawn = _("%(noise)s sensitivities on each mean, drawn in the aggregator's enclave")
        unit = _(
            "per hospital, at delta %(delta)s: whether any one hospital's changes are in it, not single rows "
            "of large hospitals"
        )
        counts: Sequence[int | None] = (1,)  # rows do not matter to this unit
    else:
        drawn = _(
            "%(noise)s sensitivities on each step, in the hospital's enclave; a row's gradient is clipped to "
            "%(clip)s"
        )
        unit = _(
            "per row, at delta %(delta)s: whether any one row was used; a patient with several rows is "
            "hidden less"
        )
        counts = rows
    meaning = _(
        "whoever sees the parameters can be surer of it by the factor exp(epsilon), no more; scores on test "
        "rows are not covered"
    )
    return [
        Fact(_("Noise"), drawn % texts),
        Fact(_("What epsilon is about"), unit % texts),
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
    return number(f"{worst:.3g}")
