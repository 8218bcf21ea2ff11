"""What a person who approves a run of Method 2 is told of it. Its manifest has a split, or it is invalid."""

from __future__ import annotations

from contracts.manifest import Manifest, Split

BATCHES = {
    "pooled": "each batch is drawn from the features of all sites",
    "per-site": "one tail for each site, averaged after each round",
}


def in_words(manifest: Manifest) -> str:
    """Where the model is cut, and when training ends early."""
    patience = manifest.training.patience
    early = f"; ends after {patience} rounds without a lower loss" if patience else ""
    return f"Method 2: {_split(manifest).cut} layers here, the others tuned in the server's enclave{early}"


def leaving(manifest: Manifest, readable: str) -> list[str]:
    """Features and labels, sealed, once."""
    return [
        "  once, sealed to an attested enclave: your rows' features (what the base model's first "
        f"{_split(manifest).cut} layers make of them)",
        "  and labels; it keeps them for all rounds",
        "  in a round: nothing of your rows",
        "  not proven: that another site's features are of the rows that it lists; they are no more than "
        "its rows, and stay the same",
        f"  readable by the coordinator: {readable}",
        "  never: texts; features, labels or tuned parameters that anyone outside that enclave can read",
    ]


def joining(manifest: Manifest) -> str:
    """Whose features a batch is drawn from."""
    return f"  batches      {BATCHES[_split(manifest).batches]}"


def _split(manifest: Manifest) -> Split:
    assert manifest.split is not None  # held by contracts/manifest.py
    return manifest.split
