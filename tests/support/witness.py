"""A witness of a log, as somebody else's software would be it (C2SP tlog-cosignature)."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.log.checkpoint import Checkpoint, verify_checkpoint
from contracts.log.following import follow
from contracts.log.note import KeyType, Note, NoteKey, NoteSignature, check_name, cosigned, parse_note
from contracts.log.note_writing import note_text
from contracts.signing import SigningKey


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
    """A witness's whole act: verify the log's signature, follow it from what was seen, add a cosignature/v1
    at Unix time `at`, by a key used for nothing else."""
    follow(seen, verify_checkpoint(data, log), proof)
    check_name(name)
    note, key = parse_note(data), witness_key(name, signer.public)
    signature = at.to_bytes(8, "big") + signer.sign_bytes(cosigned(note.text, at))
    return note_text(Note(note.text, (*note.signatures, NoteSignature(name, key.id, signature))))


def witness_key(name: str, public: str) -> NoteKey:
    """The key by which a witness's cosignatures are checked."""
    return NoteKey(name, public, KeyType.COSIGNATURE)
