"""Which receipt of the run is the last: the sites say so, each to the enclave that it has verified itself.

A host can restore an old state, and, where the sites hold the state's key in shares, one that it has made up.
An enclave therefore uses no state before as many sites as its manifest demands have named its receipt. Each
tells it sealed to this instance's own key: nothing that was told to another instance can be told again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from contracts.approvals import Approval
from contracts.counting import counted
from contracts.course import naming_sites
from contracts.manifest import Manifest
from contracts.refusal import Refusal


class Naming:
    """What the sites of a run have told one instance of its enclave."""

    def __init__(self, manifest: Manifest, approvals: Mapping[str, Approval]) -> None:
        self._manifest, self._approvals = manifest, approvals
        self._told: dict[str, str] = {}

    def tell(self, site: str, receipt: str) -> None:
        """The last receipt that a site has seen, by its hash. What it tells later counts."""
        self._told[site] = receipt

    def found(self, receipt: str, also: Iterable[str] = ()) -> int:
        """How many sites that count have named this receipt; `also` have signed for it otherwise."""
        named = {site for site, told in self._told.items() if told == receipt}
        return counted(self._approvals, named.union(also))

    def require(self, receipt: str, also: Iterable[str] = ()) -> None:
        """Raises: `state.not_named` where they are fewer than the manifest demands."""
        found, needed = self.found(receipt, also), naming_sites(self._manifest)
        if found < needed:
            raise Refusal("state.not_named", found=found, needed=needed)
