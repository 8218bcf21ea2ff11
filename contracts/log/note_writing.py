"""C2SP signed notes, written by the log. No enclave loads this."""

from __future__ import annotations

import base64

from contracts.log.note import DASH, Note, NoteKey, NoteSignature, check_name, parse_note
from contracts.signing import SigningKey


def note_text(note: Note) -> str:
    """The note as it travels."""
    lines = (
        f"{DASH}{each.name} {base64.b64encode(each.key_id + each.signature).decode()}\n"
        for each in note.signatures
    )
    return note.text + "\n" + "".join(lines)


def sign_note(text: str, name: str, signer: SigningKey) -> str:
    """The text as a signed note. The key serves one log only: the message is the bare text, as C2SP has
    it."""
    check_name(name)
    key = NoteKey(name, signer.public)
    note = Note(text, (NoteSignature(name, key.id, signer.sign_bytes(text.encode())),))
    return note_text(parse_note(note_text(note)))


def vkey_of(key: NoteKey) -> str:
    """The key as text, to be handed to those who verify."""
    material = bytes([key.type]) + bytes.fromhex(key.public)
    return f"{key.name}+{key.id.hex()}+{base64.b64encode(material).decode()}"
