"""Method 2 in words: features leave once, and one tail is tuned. Its manifest always has a split."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.manifest import Aggregation, Manifest, Split
from manifest_summary.facts import Fact, _
from manifest_summary.tuning import computed_again

USUAL_INSTANCES = Aggregation("fedavg", 1, 10).instances


def sent(manifest: Manifest) -> str:
    """Features and labels, once; of questions, as they are asked."""
    rows = _("features of its rows with their labels, sealed, once")
    if manifest.release.rule == "nothing":
        return rows
    return rows + _("; while the model is served, features of the texts that a hospital asks about, sealed")


def opened_by(manifest: Manifest) -> str:
    """The split server; where its key is in shares, enough hosts of hospitals."""
    alone = _("the attested split server's enclave; it sees no texts, but features tell much of them")
    shares = _split(manifest).shares
    if shares is None:
        return alone
    together = _("; its state between rounds, also the hosts of %(n)d hospitals with the coordinator")
    return alone + together % {"n": shares.threshold}


def ever() -> str:
    """Features."""
    return _(
        "in a study by Method 2: features of patients' texts (numbers that the base model's first layers "
        "make of them) and labels, sealed; of texts that a trained model is asked about, features, sealed"
    )


def where(_manifest: Manifest) -> list[Fact]:
    """The tail is in the server's enclave; what stays at a hospital is said with what is tuned."""
    return []


def begins(manifest: Manifest) -> list[Fact]:
    """A hospital has none: only a number that somebody has set is told, as what it is."""
    instances = manifest.aggregation.instances
    if instances == USUAL_INSTANCES:
        return []
    text = _("a hospital's enclave may begin %(n)d times; by this method a hospital has none")
    return [Fact(_("Of no effect"), text % {"n": instances})]


def leaving(manifest: Manifest) -> list[Fact]:
    """Features and labels, sealed, once."""
    features = _(
        "the features of its rows (what the base model makes of them up to layer %(cut)d) and their "
        "labels, sealed to the attested split server; it keeps them for all rounds"
    )
    unproven = _(
        "that another hospital's features are of the rows that it lists; they are no more than its rows, and "
        "stay the same"
    )
    return [
        Fact(_("Once"), features % {"cut": _split(manifest).cut}),
        Fact(_("In every round"), _("nothing of its rows")),
        Fact(_("Not proven"), unproven),
    ]


def never(_manifest: Manifest) -> str:
    """Texts; what is sealed to the one enclave."""
    return _("texts; features, labels or tuned parameters that anyone outside that enclave can read")


def joining(manifest: Manifest, _rows: Sequence[int | None]) -> list[Fact]:
    """Whose features a batch is drawn from."""
    how = {
        "pooled": _("each is drawn from the features of all hospitals"),
        "per-site": _("one tail for each hospital, averaged after each round"),
    }
    facts = [Fact(_("Batches"), how[_split(manifest).batches])]
    return facts + computed_again(_split(manifest).checkpointing)


def _split(manifest: Manifest) -> Split:
    assert manifest.split is not None  # held by contracts/manifest.py
    return manifest.split
