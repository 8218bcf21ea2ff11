"""What crosses a hospital's border in a run, and what becomes of the result."""

from __future__ import annotations

from contracts.kinds import CHOSEN
from contracts.manifest import Manifest
from contracts.sealed.handback import MOST_NAMED
from manifest_summary.facts import Fact, _
from manifest_summary.formatting import word
from manifest_summary.methods import METHODS, of
from translations.numbers import number


def leaving(manifest: Manifest) -> list[Fact]:
    """What leaves, by method; who reads what; what never leaves."""
    pool = {"sites": manifest.publication.sites, "rows": manifest.publication.rows}
    readable = _(
        "number of rows used, sizes and times; scores, only pooled and rounded, over at least %(sites)d "
        "hospitals and %(rows)d rows together, of no single hospital"
    )
    method = of(manifest)
    return [
        *method.leaving(manifest),
        Fact(_("Readable by the coordinator"), readable % pool),
        *_tables(manifest),
        *_chosen(manifest),
        *_written(manifest),
        Fact(_("Never"), method.never(manifest)),
    ]


def _tables(manifest: Manifest) -> list[Fact]:
    if not manifest.publication.cells:
        return []
    text = _(
        "once, of the test rows of all hospitals together: how many of each label the model took for which, "
        "and how sure it was, in multiples of at least %(cells)d rows"
    )
    return [Fact(_("Tables of the test"), text % {"cells": manifest.publication.cells})]


def _chosen(manifest: Manifest) -> list[Fact]:
    if manifest.coded != CHOSEN:
        return []
    what = _(
        "of the answers that a question offers, the one that it would write the likeliest (the sum over its "
        "tokens); how many are right is told of all hospitals together"
    )
    return [Fact(_("The model chooses answers"), what)]


def _written(manifest: Manifest) -> list[Fact]:
    publication = manifest.publication
    if not publication.written_rows:
        return []
    what = _(
        "in every round, to at most %(rows)d rows of each hospital, the same ones, in %(tokens)d tokens; "
        "its enclave holds them against the true answers, and only how far all agree together is told"
    )
    facts = what % {"rows": publication.written_rows, "tokens": publication.written_tokens}
    return [Fact(_("The model writes answers"), facts)]


def receivers(rule: str) -> str:
    """Who gets the tuned parameters in the end, by the rule of release."""
    return {
        "nothing": _("nobody; they stay sealed, and no enclave lets them out"),
        "serve-only": _("nobody; an enclave answers the hospitals' questions with them"),
        "sealed-to-sites": _("every hospital that signs for it, sealed to a key that is made there"),
        "export": _("the study's lead, in clear; the coordinator's operator can read them as well"),
    }[rule]


def comes_to(manifest: Manifest) -> str:
    """The rule of release in effect. No program of Method 1 serves: an older study could ask for it, and its
    parameters stay sealed."""
    rule = manifest.release.rule
    return "nothing" if rule == "serve-only" and manifest.method == "method-1" else rule


def signatures(manifest: Manifest) -> str:
    """How many hospitals have to sign, and for what; empty where nothing is ever asked for."""
    rule, needed = comes_to(manifest), manifest.release.approvals
    served = manifest.method == "method-2"
    if rule == "nothing":
        return ""
    if rule == "serve-only":
        text = _("%(n)d of %(all)d hospitals must sign before an enclave serves it")
    elif served:
        text = _(
            "%(n)d of %(all)d hospitals must sign for a release, and as many before an enclave serves it"
        )
    else:
        text = _("%(n)d of %(all)d hospitals must sign for a release")
    return text % {"n": needed, "all": len(manifest.sites)}


def ever() -> list[str]:
    """What may leave a hospital in any study, for whoever looks after its network."""
    return [
        *(method.ever() for method in METHODS.values()),
        _("heartbeats, numbers (rows, sizes, times), signatures"),
        _("texts and rows themselves never leave"),
    ]


def _answers(most: int) -> str:
    if not most:
        return _("any number, where it is served; each is counted")
    text = _(
        "where it is served, each hospital gets at most %(most)s answers (labels of a text, or tokens that "
        "are written) of an enclave, and the hospitals' agents let at most %(lives)d enclaves serve"
    )
    return text % {"most": number(f"{most:,}"), "lives": MOST_NAMED}


def release(manifest: Manifest) -> list[Fact]:
    """What may come out, who gets it, who has to sign, and what is in it."""
    rule = comes_to(manifest)
    facts = [
        Fact(_("What may come out"), word(rule)),
        Fact(_("Who gets the tuned parameters"), receivers(rule)),
    ]
    if asked := signatures(manifest):
        facts.append(Fact(_("Before that"), asked))
    if rule != "nothing" and manifest.method == "method-2":
        facts.append(Fact(_("Questions to it"), _answers(manifest.release.answers)))
    if rule != "nothing" and manifest.aggregation.privacy is None:
        remember = _("the parameters may remember single texts, for whoever gets them or asks them")
        facts.append(Fact(_("What they may tell"), remember))
    return facts
