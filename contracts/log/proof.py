"""Proof that something stands in the log: the entry, a signed checkpoint, and the way from one to the other.

Whoever relies on an entry demands this, and compares the checkpoint with the one that they saw last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from contracts.log import merkle
from contracts.log.checkpoint import Checkpoint, verify_checkpoint, verify_cosignatures
from contracts.log.note import NoteKey
from contracts.policy import Hex32
from contracts.refusal import Refusal


class Logged(Struct, frozen=True, forbid_unknown_fields=True):
    """`entry` is the leaf's text, the `index`-th of the log; `proof` leads from its hash to the root of
    `checkpoint`, a signed note."""

    entry: Annotated[str, Meta(max_length=1 << 20)]
    index: Annotated[int, Meta(ge=0, lt=2**53)]
    checkpoint: Annotated[str, Meta(max_length=1 << 16)]
    proof: Annotated[tuple[Hex32, ...], Meta(max_length=64)]


def require_logged(
    logged: Logged, kind: str, key: NoteKey, witnesses: Sequence[NoteKey]
) -> tuple[dict[str, Any], Checkpoint]:
    """The body of the entry, which is of this kind, and the checkpoint that it is proven under.

    `key` is the log's; every one of `witnesses` has cosigned the checkpoint.

    Raises: `log.not_included`, `log.not_cosigned`, `log.wrong_entry`, or as `verify_checkpoint`.
    """
    checkpoint = verify_checkpoint(logged.checkpoint, key)
    cosigned = verify_cosignatures(logged.checkpoint, witnesses)
    for witness in witnesses:
        if witness.name not in cosigned:
            raise Refusal("log.not_cosigned", witness=witness.name[:100])
    leaf = merkle.leaf_hash(logged.entry.encode())
    path = [bytes.fromhex(value) for value in logged.proof]
    merkle.verify_inclusion(logged.index, checkpoint.size, leaf, path, checkpoint.root)
    try:
        entry = msgspec.json.decode(logged.entry, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal("log.wrong_entry", kind=kind) from error
    body = entry.get("body")
    if entry.get("kind") != kind or not isinstance(body, dict):
        raise Refusal("log.wrong_entry", kind=kind)
    return body, checkpoint
