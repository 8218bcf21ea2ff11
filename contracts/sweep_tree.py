"""The tree over the manifests of a sweep, as whoever signs or shows it makes it. Enclaves only follow a path
(contracts/approvals.py)."""

from __future__ import annotations

from collections.abc import Collection

from contracts.approvals import InSweep, Sweep
from contracts.log.growth import MemoryStore, append, inclusion_proof, root
from contracts.log.merkle import leaf_hash


class SweepTree:
    """Of manifests' hashes, in their own order: whoever has the same manifests has the same tree."""

    def __init__(self, hashes: Collection[str]) -> None:
        self.hashes = sorted(hashes)
        self._store, size = MemoryStore(), 0
        for one in self.hashes:
            size = append(self._store, size, leaf_hash(bytes.fromhex(one)))
        self.root = root(self._store, size).hex()

    def place(self, signed: Sweep, manifest_hash: str) -> InSweep:
        """Where this manifest stands in it."""
        index = self.hashes.index(manifest_hash)
        path = inclusion_proof(self._store, index, len(self.hashes))
        return InSweep(signed, index, tuple(one.hex() for one in path))
