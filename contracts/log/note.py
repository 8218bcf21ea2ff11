"""C2SP signed notes (c2sp.org/signed-note), read strictly, with Ed25519 signatures and v1 cosignatures.

A note is text that ends in a newline, an empty line, and signature lines `— <name> base64(key id ‖
signature)`. A key is named by `(name, key id)`; its text form is a *vkey*, `<name>+<key id in
hex>+base64(type ‖ public key)`. Signatures of keys that the reader does not know are ignored; one of a known
key that fails refuses the note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from enum import IntEnum

from msgspec import Struct

from contracts import signing
from contracts.refusal import Refusal

MAX_NOTE_BYTES = 64 * 1024
MAX_SIGNATURES = 100
MAX_TIMESTAMP = 2**63 - 1
DASH = "— "


class KeyType(IntEnum):
    """The signature types of signed-note that are used here."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


class NoteKey(Struct, frozen=True):
    """Who may sign a note: a name, an Ed25519 public key in hex, and whether it signs notes or cosigns
    them."""

    name: str
    public: str
    type: KeyType = KeyType.ED25519

    @property
    def id(self) -> bytes:
        """SHA-256(name ‖ 0x0A ‖ type ‖ public key), its first four bytes."""
        data = self.name.encode() + b"\n" + bytes([self.type]) + bytes.fromhex(self.public)
        return hashlib.sha256(data).digest()[:4]


class NoteSignature(Struct, frozen=True):
    """One signature line. `signature` is what follows the key id."""

    name: str
    key_id: bytes
    signature: bytes


class Note(Struct, frozen=True):
    """A note as it was read. Its text is worth nothing until `check_signature` has passed for a trusted
    key."""

    text: str
    signatures: tuple[NoteSignature, ...]


def parse_vkey(text: str) -> NoteKey:
    """Read a vkey.

    Raises: `log.invalid_note`.
    """
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    material = strict_base64(encoded)
    check_name(name)
    if len(material) != 33 or material[0] not in tuple(KeyType):
        raise Refusal("log.invalid_note", fault="the verifier key is of a type that is not used here")
    key = NoteKey(name, material[1:].hex(), KeyType(material[0]))
    if key.id.hex() != key_id:
        raise Refusal("log.invalid_note", fault="the verifier key's id does not fit the key")
    return key


def parse_note(data: bytes | str) -> Note:
    """Read a note. Believes nothing in it.

    Raises: `log.invalid_note`.
    """
    raw = data.encode() if isinstance(data, str) else data
    if len(raw) > MAX_NOTE_BYTES:
        raise Refusal("log.invalid_note", fault=f"it has more than {MAX_NOTE_BYTES} bytes")
    try:
        whole = raw.decode()
    except UnicodeDecodeError as error:
        raise Refusal("log.invalid_note", fault="it is not UTF-8") from error
    if any(character < " " and character != "\n" for character in whole):
        raise Refusal("log.invalid_note", fault="it holds control characters")
    text, gap, signed = whole.rpartition("\n\n")
    if not gap or not text or not signed.endswith("\n"):
        raise Refusal("log.invalid_note", fault="it is not a text, an empty line and signature lines")
    lines = signed[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise Refusal("log.invalid_note", fault=f"it has more than {MAX_SIGNATURES} signatures")
    return Note(text + "\n", tuple(_parse_line(line) for line in lines))


def check_signature(note: Note, key: NoteKey) -> int | None:
    """Check the signature by `key`: its timestamp for a cosignature, None for a plain one.

    Raises: `log.bad_checkpoint_signature` where there is none, or any of that name and id fails.
    """
    refusal = Refusal("log.bad_checkpoint_signature", name=key.name[:100])
    matching = [line for line in note.signatures if (line.name, line.key_id) == (key.name, key.id)]
    if not matching:
        raise refusal
    at: int | None = None
    for line in matching:
        message, signature = note.text.encode(), line.signature
        if key.type == KeyType.COSIGNATURE:
            at, signature = int.from_bytes(signature[:8], "big"), signature[8:]
            message = cosigned(note.text, at)
        try:
            if at is not None and at > MAX_TIMESTAMP:
                raise refusal
            signing.verify_bytes(key.public, message, signature)
        except Refusal as cause:
            raise refusal from cause
    return at


def cosigned(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


def _parse_line(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(DASH).partition(" ")
    if not line.startswith(DASH):
        raise Refusal("log.invalid_note", fault="a signature line does not begin with a dash")
    check_name(name)
    signature = strict_base64(encoded)
    if len(signature) < 5:
        raise Refusal("log.invalid_note", fault="a signature is too short")
    return NoteSignature(name, signature[:4], signature[4:])


def check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() or character < " " for character in name):
        raise Refusal("log.invalid_note", fault="a key's name is empty or holds spaces or a plus sign")


def strict_base64(text: str) -> bytes:
    """Standard base64 in its one canonical spelling.

    Raises: `log.invalid_note`.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal("log.invalid_note", fault="it holds broken base64") from error
    if base64.b64encode(data).decode() != text:
        raise Refusal("log.invalid_note", fault="it holds base64 in an unusual spelling")
    return data
