"""A manifest in six plain sentences, for whoever decides before they read the rest.

Terminal, pages, mails and the officer's sheet show the same ones. All that stands here is said in full by
`manifest_summary.summary`, or holds for every run.
"""

from __future__ import annotations

from contracts.manifest import Manifest
from manifest_summary.facts import Fact, Section, _
from manifest_summary.formatting import no_patients
from manifest_summary.leaving import comes_to, receivers, signatures
from manifest_summary.methods import of
from translations.numbers import number


def in_short(manifest: Manifest, reader: str = "", dataset: str = "") -> Section:
    """Whose rows, what leaves, who can open it, what may come out and to whom, what that may remember, how
    long it is kept; and what a development run is not for. `reader`: the id of the hospital that reads, whose
    rows are called by the name `dataset` that it has given them."""
    method = of(manifest)
    facts = [
        Fact(_("Whose rows"), _rows(manifest, reader, dataset)),
        Fact(_("What leaves a hospital"), method.sent(manifest)),
        Fact(_("Who can open it"), method.opened_by(manifest)),
        Fact(_("What may come out, and to whom"), _out(manifest)),
        Fact(_("What it may remember"), remembered(manifest)),
        Fact(_("How long it is kept"), kept(manifest)),
    ]
    if manifest.policy.root == "development":
        facts.append(Fact(_("Not for patients' data"), no_patients()))
    return Section(_("In short"), tuple(facts))


def remembered(manifest: Manifest) -> str:
    """What the tuned parameters may tell."""
    if manifest.aggregation.privacy is None:
        return _("the parameters may remember single texts; no noise is added")
    if manifest.aggregation.privacy.unit == "site":
        return _("noise bounds what the parameters tell of any one hospital; less so of single texts")
    return _("noise bounds what the parameters tell of any one row")


def kept(manifest: Manifest) -> str:
    """For how long, and on whose word."""
    if manifest.placement == "plaintext":
        return _("until the coordinator's operator deletes it; anybody there can read it meanwhile")
    return _(
        "what was sent, sealed, is removed at the coordinator once no run needs it; the tuned parameters "
        "stay there, sealed, with scores and receipts. The operator does this; no enclave can enforce it"
    )


def _rows(manifest: Manifest, reader: str, dataset: str) -> str:
    own = [site for site in manifest.sites if site.id == reader]
    others = ", ".join(site.name for site in manifest.sites if site.id != reader)
    if not own:
        rows = sum(site.dataset.rows for site in manifest.sites)
        return _("%(rows)s rows of %(others)s") % {"rows": number(f"{rows:,}"), "others": others}
    text = _("“%(dataset)s” of %(site)s, %(rows)s rows")
    mine = text % {
        "dataset": dataset or own[0].dataset.id,
        "site": own[0].name,
        "rows": number(f"{own[0].dataset.rows:,}"),
    }
    return mine + (_("; others bring theirs: %(others)s") % {"others": others} if others else "")


def _out(manifest: Manifest) -> str:
    text = _("scores, of all hospitals together; the tuned parameters: %(who)s")
    text %= {"who": receivers(comes_to(manifest))}
    asked = signatures(manifest)
    return f"{text}; {asked}" if asked else text
