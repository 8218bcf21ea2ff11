"""How the Merkle tree of RFC 6962 grows: the log's store of hashes, its proofs, consistency of two trees.

The log keeps the hash of every complete subtree: `(level, index)` covers leaves [index·2^level,
(index+1)·2^level). A complete subtree never changes, so an append writes the few that it completes (two on
average, log₂ n at most) and any proof reads at most about 2·log₂ n of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from contracts.log.merkle import EMPTY_ROOT, are_hashes, node_hash
from contracts.refusal import Refusal


class HashStore(Protocol):
    """Where hashes of complete subtrees are kept (a database table; a dict)."""

    def get_hash(self, level: int, index: int) -> bytes:
        """The 32-byte hash of a complete subtree that was put."""
        ...

    def put(self, level: int, index: int, value: bytes) -> None:
        """Keep a hash; it is never changed afterwards."""
        ...


class MemoryStore:
    """A store in memory, for verifiers and tests."""

    def __init__(self) -> None:
        self.hashes: dict[tuple[int, int], bytes] = {}

    def get_hash(self, level: int, index: int) -> bytes:
        return self.hashes[level, index]

    def put(self, level: int, index: int, value: bytes) -> None:
        self.hashes[level, index] = value


def append(store: HashStore, size: int, leaf: bytes) -> int:
    """Add a leaf hash to a tree of `size` leaves: writes it and every subtree that it completes; returns the
    new size."""
    store.put(0, size, leaf)
    level, index, value = 0, size, leaf
    while index % 2 == 1:
        value = node_hash(store.get_hash(level, index - 1), value)
        level, index = level + 1, index // 2
        store.put(level, index, value)
    return size + 1


def root(store: HashStore, size: int) -> bytes:
    """The tree head over the first `size` leaves (MTH)."""
    return _subtree(store, 0, size) if size else EMPTY_ROOT


def inclusion_proof(store: HashStore, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]): the hashes beside the way from the leaf to the root, from the leaf up.

    Raises: `log.bad_range`.
    """
    if not 0 <= index < size:
        raise Refusal("log.bad_range", size=size, asked=index)
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            proof.append(_subtree(store, middle, end))
            end = middle
        else:
            proof.append(_subtree(store, begin, middle))
            begin = middle
    return proof[::-1]


def consistency_proof(store: HashStore, first: int, second: int) -> list[bytes]:
    """PROOF(first, D[second]): shows that the first `first` leaves of a tree of `second` are what they were.

    Empty where both are equal.

    Raises: `log.bad_range`; nothing can be shown about an empty tree.
    """
    if not 0 < first <= second:
        raise Refusal("log.bad_range", size=second, asked=first)
    proof: list[bytes] = []
    begin, end, whole = 0, second, True
    while first < end:
        middle = begin + _split(end - begin)
        if first <= middle:
            proof.append(_subtree(store, middle, end))
            end = middle
        else:
            proof.append(_subtree(store, begin, middle))
            begin, whole = middle, False
    if not whole:
        proof.append(_subtree(store, begin, end))
    return proof[::-1]


def verify_consistency(
    first: int, second: int, first_head: bytes, second_head: bytes, proof: Sequence[bytes]
) -> None:
    """Whether a tree is what another has grown to. An empty first tree is refused: it is consistent with
    all and shows nothing.

    Raises: `log.not_consistent`.

    Source: RFC 9162, section 2.1.4.2.
    """
    refusal = Refusal("log.not_consistent", first=first, second=second)
    if not 0 < first <= second:
        raise refusal
    if first == second:
        if proof or first_head != second_head:
            raise refusal
        return
    if not are_hashes(first_head, second_head, *proof):
        raise refusal
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_head)
    if not path:
        raise refusal
    place, last = first - 1, second - 1
    while place % 2 == 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise refusal
        if place % 2 == 1 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while place % 2 == 0 and place > 0:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    if last != 0 or old != first_head or new != second_head:
        raise refusal


def _subtree(store: HashStore, begin: int, end: int) -> bytes:
    """The head over leaves [begin, end), where `begin` is aligned to the width's next power of two."""
    width = end - begin
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return store.get_hash(level, begin >> level)
    middle = begin + _split(width)
    return node_hash(_subtree(store, begin, middle), _subtree(store, middle, end))


def _split(width: int) -> int:
    """The largest power of two smaller than `width` (at least 2)."""
    return 1 << ((width - 1).bit_length() - 1)
