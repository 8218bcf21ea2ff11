"""What a run's receipts state of its noise, held against manifest and contributions; and what it is worth.

Enclaves state parameters. Epsilon is computed here: from what a receipt states, and from what the manifest's
noise and the contributions of all rounds so far come to.
"""

from __future__ import annotations

from contracts.manifest import Manifest
from contracts.privacy import spend
from contracts.receipts import NO_RECEIPT, Receipt, Spent
from contracts.refusal import Refusal
from privacy_accounting.epsilon import spent_so_far
from transparency_log.receipt_faults import Fault

WRONG = "bundle.wrong_noise"


class NoiseRecord:
    """Takes a run's receipts in their order. `spent` is what the last one had to state."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._begun = False
        self.spent: Spent | None = None

    def take(self, receipt: Receipt) -> list[Fault]:
        """Why this receipt does not state the noise of its run. After a false one, the next is held against
        what that should have stated. Where the receipts before the first are missing (a part of a log), its
        counts of steps are taken as they are."""
        stated = receipt.privacy
        if not self._begun and receipt.previous != NO_RECEIPT and _same_kind(stated, self._manifest):
            self.spent = stated
        elif receipt.averaging is not None:  # the closing evaluation changes no parameters
            inputs = {item.site: item.samples for item in receipt.inputs}
            self.spent = spend(self._manifest, inputs, self.spent)
        self._begun = True
        if stated == self.spent:
            return []
        said, made = _worth(stated), _worth(self.spent)
        return [(WRONG, f"it states noise {said}; the manifest and the contributions make it {made}.")]

    def in_words(self) -> str:
        """What a run's noise is worth, in words; empty without noise. Raises as `spent_so_far`."""
        spent = self.spent
        if spent is None:
            return ""
        unit = {"site": "hospital", "record": "training row"}[spent.unit]
        worth = f"Epsilon {spent_so_far(spent):.4g} at delta {spent.delta:g} per {unit}"
        return f"{worth} after {spent.rounds} rounds, computed from manifest and receipts"


def _same_kind(spent: Spent | None, manifest: Manifest) -> bool:
    agreed = spend(manifest, {}, None)
    if spent is None or agreed is None:
        return spent is agreed
    return (spent.unit, spent.mechanism, spent.noise, spent.delta) == (
        agreed.unit,
        agreed.mechanism,
        agreed.noise,
        agreed.delta,
    )


def _worth(spent: Spent | None) -> str:
    if spent is None:
        return "of none"
    try:
        return f"of epsilon {spent_so_far(spent):.4g} at delta {spent.delta:g} per {spent.unit}"
    except (Refusal, ValueError):
        return "of an epsilon that cannot be computed"
