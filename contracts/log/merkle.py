"""The hashes of the log's Merkle tree, and the proof that a leaf is in it: all that a relying party needs.
How a tree grows stands in contracts/log/growth.py.

Source: RFC 6962, section 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from contracts.refusal import Refusal

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 ‖ data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], head: bytes) -> None:
    """Whether a leaf is in a tree.

    Raises: `log.not_included`.

    Source: RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size or not are_hashes(leaf, head, *proof):
        raise Refusal("log.not_included")
    value, place, last = leaf, index, size - 1
    for sibling in proof:
        if last == 0:
            raise Refusal("log.not_included")
        if place % 2 == 1 or place == last:
            value = node_hash(sibling, value)
            while place % 2 == 0 and place > 0:
                place, last = place >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        place, last = place >> 1, last >> 1
    if last != 0 or value != head:
        raise Refusal("log.not_included")


def are_hashes(*values: bytes) -> bool:
    """Whether each has the length of a hash."""
    return all(len(value) == HASH_BYTES for value in values)
