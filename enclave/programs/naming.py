"""Which receipt of the run is the last: the sites say so, each to the enclave that it has verified itself.

A host can restore an old state, and, where the sites hold the state's key in shares, one that it has made up.
An enclave therefore uses no state before as many sites as its manifest demands have named its receipt. Each
tells it sealed to this instance's own key: nothing that was said to another instance can be said again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from contracts.approvals import Approval
from contracts.counting import counted
from contracts.course import naming_sites
from contracts.manifest import Manifest
from contracts.refusal import Refusal


class Naming:
    """What the sites of a run have named to one instance of its enclave."""

    def __init__(self, manifest: Manifest, approvals: Mapping[str, Approval]) -> None:
        self._manifest, self._approvals = manifest, approvals
        self._named: dict[str, str] = {}

    def tell(self, site: str, receipt: str) -> None:
        """The last receipt that a site has seen, by its hash. What it tells later counts."""
        self._named[site] = receipt

    def found(self, receipt: str, also: Iterable[str] = ()) -> int:
        """How many sites that count have named this receipt; `also` have signed for it otherwise."""
        naming = {site for site, last in self._named.items() if last == receipt}
        return counted(self._approvals, naming.union(also))

    def require(self, receipt: str, also: Iterable[str] = ()) -> None:
        """Raises: `state.not_named` where they are fewer than the manifest demands."""
        found, needed = self.found(receipt, also), naming_sites(self._manifest)
        if found < needed:
            raise Refusal("state.not_named", found=found, needed=needed)
