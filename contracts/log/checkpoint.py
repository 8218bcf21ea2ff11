"""Checkpoints: signed tree heads in the C2SP forms tlog-checkpoint and tlog-cosignature (v1, Ed25519).

The log signs one at every publication. An agent keeps the last that it saw and `follow`s only what grows from
it; a witness does the same and then cosigns. The log's key name is its origin.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from contracts.log import merkle
from contracts.log.note import (
    KeyType,
    Note,
    NoteKey,
    check_signature,
    cosign_note,
    parse_note,
    sign_note,
    strict_base64,
)
from contracts.refusal import Refusal
from contracts.signing import SigningKey

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(Struct, frozen=True):
    """The log `origin` had `size` entries with the tree head `root` (32 bytes). `extensions` are lines that
    mean nothing here."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def sign_checkpoint(checkpoint: Checkpoint, signer: SigningKey) -> str:
    """The signed note, by the log's key. The caller never signs two that do not grow from one another."""
    return sign_note(_parse_text(checkpoint.text).text, checkpoint.origin, signer)


def read_checkpoint(note: Note) -> Checkpoint:
    """What a note says, not who says it. Refuses with `log.invalid_note`."""
    return _parse_text(note.text)


def verify_checkpoint(data: bytes | str, key: NoteKey) -> Checkpoint:
    """The checkpoint in a note that `key` (the log's) signed. Runs with the relying party.

    Refuses with `log.invalid_note`, `log.bad_checkpoint_signature`, or `log.wrong_origin`.
    """
    note = parse_note(data)
    check_signature(note, key)
    checkpoint = _parse_text(note.text)
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


def follow(seen: Checkpoint | None, new: Checkpoint, proof: Sequence[bytes]) -> Checkpoint:
    """The rule of agents and witnesses: a log may only grow. Returns what to keep as seen.

    `proof` is the consistency proof from `seen` to `new` (empty where nothing was seen, where nothing was in
    the log, or where both are equal). Refuses with `log.wrong_origin`, `log.went_back` or
    `log.not_consistent` (a fork).
    """
    if seen is None:
        return new
    if new.origin != seen.origin:
        raise Refusal("log.wrong_origin", found=new.origin[:100], expected=seen.origin[:100])
    if new.size < seen.size:
        raise Refusal("log.went_back", found=new.size, seen=seen.size)
    if seen.size > 0:
        merkle.verify_consistency(seen.size, new.size, seen.root, new.root, proof)
    return new


def cosign(
    data: bytes | str,
    *,
    log: NoteKey,
    seen: Checkpoint | None,
    proof: Sequence[bytes],
    name: str,
    signer: SigningKey,
    at: int,
) -> str:
    """A witness's whole act: verify the log's signature, follow it from what was seen, add a cosignature.

    The caller then keeps the new checkpoint as seen. Refuses as `verify_checkpoint` and `follow` do.
    """
    follow(seen, verify_checkpoint(data, log), proof)
    return cosign_note(parse_note(data), name, signer, at)


def witness_key(name: str, public: str) -> NoteKey:
    """The key by which a witness's cosignatures are checked."""
    return NoteKey(name, public, KeyType.COSIGNATURE)


def _parse_text(text: str) -> Checkpoint:
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
