"""An inclusion proof, worked out step by step in front of the reader (RFC 9162, section 2.1.3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.log import merkle
from contracts.log.checkpoint import verify_checkpoint
from contracts.log.note import parse_vkey
from contracts.refusal import Refusal
from federation.attestation import log
from federation.attestation.models import Checkpoint, LogEntry


@dataclass(frozen=True)
class ProofStep:
    """SHA-256(0x01 ‖ left ‖ right) = result, all hex; `sibling` says which of the two came from the proof."""

    left: str
    right: str
    sibling: str
    result: str


@dataclass(frozen=True)
class ShownProof:
    """`leaf` is worked out from the entry's bytes as they are kept now; `code` is empty if all holds."""

    leaf: str
    steps: tuple[ProofStep, ...]
    root: str
    size: int
    note: str
    key: str
    code: str


def prove(entry: LogEntry) -> ShownProof:
    """Prove that the entry is in the log under its newest checkpoint, and check that proof.

    1. The leaf hash, from the entry's own bytes.
    2. Up the tree, with the hashes of the proof.
    3. The checkpoint: signed by the log's key, and its root is what came out.
    """
    head = Checkpoint.objects.filter(size__gt=entry.index).order_by("-size").first() or log.checkpoint()
    _, size, siblings = log.inclusion(str(entry.index), head.size)
    leaf = merkle.leaf_hash(entry.data.encode())
    steps, result = _climb(entry.index, size, leaf, siblings)
    key, code = log.verifier_key(), ""
    try:
        signed = verify_checkpoint(head.note, parse_vkey(key))
        merkle.verify_inclusion(entry.index, signed.size, leaf, siblings, signed.root)
        if result != signed.root:
            raise Refusal("log.not_included")
    except Refusal as refusal:
        code = refusal.code
    return ShownProof(leaf.hex(), steps, head.root, size, head.note, key, code)


def _climb(index: int, size: int, leaf: bytes, siblings: list[bytes]) -> tuple[tuple[ProofStep, ...], bytes]:
    steps, value, place, last = [], leaf, index, size - 1
    for sibling in siblings:
        if place % 2 == 1 or place == last:
            left, right, side = sibling, value, "left"
            while place % 2 == 0 and place > 0:
                place, last = place >> 1, last >> 1
        else:
            left, right, side = value, sibling, "right"
        place, last = place >> 1, last >> 1
        value = merkle.node_hash(left, right)
        steps.append(ProofStep(left.hex(), right.hex(), side, value.hex()))
    return tuple(steps), value
