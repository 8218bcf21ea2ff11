"""Checkpoints: signed tree heads in the C2SP forms tlog-checkpoint and tlog-cosignature (v1, Ed25519).

The log signs one at every publication, and its key's name is its origin. Who signs, follows and cosigns them:
contracts/log/following.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from contracts.log import merkle
from contracts.log.note import NoteKey, check_signature, parse_note, strict_base64
from contracts.refusal import Refusal

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(Struct, frozen=True):
    """The log `origin` had `size` entries with the tree head `root` (32 bytes). `extensions` are lines that
    mean nothing here."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


def verify_checkpoint(data: bytes | str, key: NoteKey) -> Checkpoint:
    """The checkpoint in a note that `key` (the log's) signed. Runs with the relying party.

    Raises: `log.invalid_note`, `log.bad_checkpoint_signature`, or `log.wrong_origin`.
    """
    note = parse_note(data)
    check_signature(note, key)
    checkpoint = parse_text(note.text)
    if checkpoint.origin != key.name:
        raise Refusal("log.wrong_origin", found=checkpoint.origin[:100], expected=key.name[:100])
    return checkpoint


def verify_cosignatures(data: bytes | str, witnesses: Iterable[NoteKey]) -> dict[str, int]:
    """Which of `witnesses` cosigned, and when (Unix seconds). One that is absent is absent from the result;
    one that fails refuses the note with `log.bad_checkpoint_signature`."""
    note = parse_note(data)
    present = {(line.name, line.key_id) for line in note.signatures}
    times: dict[str, int] = {}
    for witness in witnesses:
        if (witness.name, witness.id) in present:
            times[witness.name] = check_signature(note, witness) or 0
    return times


def parse_text(text: str) -> Checkpoint:
    """The checkpoint that a note's text says.

    Raises: `log.invalid_note`.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() != "" or "" in lines:
        raise Refusal("log.invalid_note", fault="it is not three or more lines")
    origin, size, root, *extensions = lines
    if not _SIZE.fullmatch(size):
        raise Refusal("log.invalid_note", fault="its tree size is not a plain decimal number")
    head = strict_base64(root)
    if len(head) != merkle.HASH_BYTES:
        raise Refusal("log.invalid_note", fault="its root hash does not have 32 bytes")
    if int(size) == 0 and head != merkle.EMPTY_ROOT:
        raise Refusal("log.invalid_note", fault="an empty tree has another root hash")
    return Checkpoint(origin, int(size), head, tuple(extensions))
