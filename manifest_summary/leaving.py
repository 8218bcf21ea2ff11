"""What crosses a hospital's border in a run, and what becomes of the result."""

from __future__ import annotations

from contracts.manifest import Manifest
from manifest_summary.facts import Fact, _
from manifest_summary.words import word


def leaving(manifest: Manifest) -> list[Fact]:
    """What leaves, by method; who reads what; what never leaves."""
    pool = {"sites": manifest.publication.sites, "rows": manifest.publication.rows}
    readable = _(
        "number of rows used, sizes and times; scores, only pooled and rounded, over at least %(sites)d "
        "hospitals and %(rows)d rows together, of no single hospital"
    )
    return [*_by_method(manifest), Fact(_("Readable by the coordinator"), readable % pool), _never(manifest)]


def _by_method(manifest: Manifest) -> list[Fact]:
    each = _("In every round")
    if manifest.placement == "plaintext":
        update = _("the tuned parameters, UNPROTECTED, for the coordinator and the other hospitals")
        return [Fact(each, update)]
    if manifest.split is None:
        update = _(
            "the tuned parameters and the counts of right answers on held-out rows, sealed to the attested "
            "aggregator"
        )
        return [Fact(each, update)]
    features = _(
        "the features of its rows (what the base model's first %(cut)d layers make of them) and their "
        "labels, sealed to the attested split server; it keeps them for all rounds"
    )
    unproven = _(
        "that another hospital's features are of the rows that it lists; they are no more than its rows, and "
        "stay the same"
    )
    return [
        Fact(_("Once"), features % {"cut": manifest.split.cut}),
        Fact(each, _("nothing of its rows")),
        Fact(_("Not proven"), unproven),
    ]


def _never(manifest: Manifest) -> Fact:
    if manifest.placement == "plaintext":
        never = _("rows, labels of rows, texts")
    elif manifest.split is None:
        never = _("rows, labels of rows, texts; tuned parameters that anyone outside an enclave can read")
    else:
        never = _("texts; features, labels or tuned parameters that anyone outside that enclave can read")
    return Fact(_("Never"), never)


def receivers(rule: str) -> str:
    """Who gets the tuned parameters in the end, by the rule of release."""
    return {
        "nothing": _("nobody; they stay sealed, and no enclave lets them out"),
        "serve-only": _("nobody; an enclave answers questions with them"),
        "sealed-to-sites": _("every hospital that signs for it, sealed to a key that is made there"),
        "export": _("the study's lead, in clear; the coordinator's operator can read them as well"),
    }[rule]


def release(manifest: Manifest) -> list[Fact]:
    """What may come out, who gets it, who has to sign, and what is in it."""
    rule = manifest.release.rule
    facts = [
        Fact(_("What may come out"), word(rule)),
        Fact(_("Who gets the tuned parameters"), receivers(rule)),
    ]
    if rule in ("sealed-to-sites", "export"):
        facts.append(Fact(_("Signatures for a release"), str(manifest.release.approvals)))
    if rule != "nothing" and manifest.aggregation.privacy is None:
        remember = _("the parameters may remember single texts, for whoever gets them or asks them")
        facts.append(Fact(_("What they may tell"), remember))
    return facts
