"""Sealed streams: how every large secret travels and rests (updates, next states, feature shards).

docs/protocol.md specifies the format. A header names the binding (run manifest, round, kind, sender), the
sender's signing key, and holds a data key wrapped by HPKE for each receiver; frames follow; a trailer ends
it. The sender signs the header and, in the trailer, the SHA-256 of everything before it. The second signature
also keeps one receiver, who knows the data key, from rewriting the stream for another.

What is sealed once is stored and re-sent byte for byte: a resumed upload never encrypts again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, BinaryIO, Literal

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct

from contracts import signing
from contracts.canonical import canonical
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.frames import (
    MAX_PLAINTEXT_BYTES,
    Chunk,
    HashBeside,
    decrypt_frames,
    encrypt_frames,
    read_exactly,
)
from contracts.sealed.hpke import WRAP_OVERHEAD, HpkeKey, wrap
from contracts.signing import SigningKey

MAGIC = b"fedslice-sealed/1\n"
MAX_HEADER_BYTES = 2 << 20
MAX_RECIPIENTS = 1000
SIGNATURE_BYTES = 64
DATA_KEY_BYTES = 32
HEADER_DOMAIN = "fedslice/sealed-header/v1"
STREAM_DOMAIN = "fedslice/sealed-stream/v1"
WRAP_DOMAIN = b"fedslice/data-key/v1"
FRAME_KEY_DOMAIN = b"fedslice/frame-key/v1"

Party = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
Wrapped = Annotated[
    bytes, Meta(min_length=DATA_KEY_BYTES + WRAP_OVERHEAD, max_length=DATA_KEY_BYTES + WRAP_OVERHEAD)
]


class Binding(Struct, frozen=True, forbid_unknown_fields=True):
    """What a stream belongs to. It opens only where the opener expects exactly this."""

    manifest: Hex32
    round: Annotated[int, Meta(ge=0, lt=2**31)]
    kind: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,39}\Z")]
    sender: Party


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The clear part. `commitment` ties all receivers to one data key, hence to one plaintext: GCM alone does
    not commit to its key."""

    binding: Binding
    sender_key: Hex32
    commitment: Hex32
    recipients: Annotated[dict[Party, Wrapped], Meta(min_length=1, max_length=MAX_RECIPIENTS)]
    cipher: Literal["aes-256-gcm"] = "aes-256-gcm"


class SealedFile(Struct, frozen=True):
    """A sealed stream's name (SHA-256 of all its bytes, hex) and its length in bytes."""

    sha256: str
    bytes: int


def seal(
    source: BinaryIO, target: BinaryIO, *, binding: Binding, recipients: dict[str, str], signer: SigningKey
) -> SealedFile:
    """Seal all of `source` into `target` for `recipients` (name -> HPKE public key in hex). Constant memory.

    Runs in the enclave (or, in Method 2, at the site) that holds `signer`. On an exception `target` holds
    garbage that opens nowhere. Refuses with `sealing.too_many_recipients`, `sealing.bad_key` or
    `sealing.refused` (a binding that breaks its own pattern).
    """
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise Refusal("sealing.too_many_recipients", recipients=len(recipients), limit=MAX_RECIPIENTS)
    data_key = secrets.token_bytes(DATA_KEY_BYTES)
    header = Header(
        binding=binding,
        sender_key=signer.public,
        commitment=_derive(data_key)[1].hex(),
        recipients={
            name: wrap(key, data_key, _info(binding, signer.public, name)) for name, key in recipients.items()
        },
    )
    raw = canonical(header)
    _parse_header(raw)
    prefix = MAGIC + len(raw).to_bytes(4, "big") + raw
    header_hash = hashlib.sha256(prefix).digest()
    signature = bytes.fromhex(signer.sign(HEADER_DOMAIN, {"header": header_hash.hex()}))

    written = 0
    with HashBeside() as content:

        def emit(*chunks: Chunk) -> None:
            nonlocal written
            content.update(*chunks)
            for chunk in chunks:
                target.write(chunk)
                written += len(chunk)

        emit(prefix, signature)
        total = encrypt_frames(source, emit, key=_derive(data_key)[0], context=header_hash)
        emit(bytes.fromhex(signer.sign(STREAM_DOMAIN, _closing(header_hash, total, content.hexdigest()))))
        return SealedFile(content.hexdigest(), written)


def unseal(
    source: BinaryIO,
    target: BinaryIO,
    *,
    binding: Binding,
    recipient: str,
    key: HpkeKey,
    sender_key: str,
    sha256: str | None = None,
    limit: int = MAX_PLAINTEXT_BYTES,
) -> SealedFile:
    """Open `source` into `target`; returns the name and length of the sealed bytes that were read.

    Runs inside the receiver's enclave. The header's signature by `sender_key` is checked before anything in
    it is read, each frame's tag before it is written, the sender's signature over the whole before this
    returns. On any failure `target` is cut back to where it was, so nothing unauthenticated stays in it; it
    must be seekable.

    `sha256`, where given, is the name that the stream must have: checking it here, in the one reading, leaves
    a host no moment to swap the file after it was checked. Refuses with `sealing.refused` for every failure
    to open, `sealing.not_sealed` for other formats, `sealing.too_large` beyond `limit` plaintext bytes.
    """
    with taking_back(target):
        opened = _open(source, target, binding, recipient, key, sender_key, limit)
        if sha256 is not None and opened.sha256 != sha256:
            raise Refusal("sealing.refused")
    return opened


@contextmanager
def taking_back(target: BinaryIO) -> Iterator[None]:
    """Cut `target` back to where it stands now if the block fails: nothing unauthenticated is left in it."""
    if not target.seekable():
        raise ValueError("opening needs a seekable target, to take back what was written")
    start = target.tell()
    try:
        yield
    except BaseException:
        target.seek(start)
        target.truncate()
        raise


def _open(
    source: BinaryIO,
    target: BinaryIO,
    binding: Binding,
    recipient: str,
    key: HpkeKey,
    sender_key: str,
    limit: int,
) -> SealedFile:
    read = 0
    with HashBeside() as content:

        def take(*chunks: Chunk) -> None:
            nonlocal read
            content.update(*chunks)
            read += sum(map(len, chunks))

        prefix, raw = read_header(source, MAGIC, MAX_HEADER_BYTES)
        header_hash = hashlib.sha256(prefix).digest()
        signature = read_exactly(source, SIGNATURE_BYTES)
        take(prefix, signature)
        _check_signature(sender_key, HEADER_DOMAIN, {"header": header_hash.hex()}, signature)

        header = _parse_header(raw)
        if header.binding != binding or header.sender_key != sender_key or recipient not in header.recipients:
            raise Refusal("sealing.refused")
        data_key = key.unwrap(header.recipients[recipient], _info(binding, sender_key, recipient))
        frame_key, commitment = _derive(data_key)
        if commitment.hex() != header.commitment:
            raise Refusal("sealing.refused")

        total = decrypt_frames(source, target, take, key=frame_key, context=header_hash, limit=limit)
        closing = _closing(header_hash, total, content.hexdigest())
        signature = read_exactly(source, SIGNATURE_BYTES)
        take(signature)
        _check_signature(sender_key, STREAM_DOMAIN, closing, signature)
        if source.read(1):
            raise Refusal("sealing.refused")
        return SealedFile(content.hexdigest(), read)


def read_header(source: BinaryIO, magic: bytes, limit: int) -> tuple[bytes, bytes]:
    """Read `magic ‖ u32 length ‖ header`: all of it, and the header alone. Nothing in it is believed yet.

    Refuses with `sealing.not_sealed`, `sealing.too_large` or `sealing.refused` (cut short).
    """
    if read_exactly(source, len(magic)) != magic:
        raise Refusal("sealing.not_sealed")
    size = read_exactly(source, 4)
    length = int.from_bytes(size, "big")
    if length > limit:
        raise Refusal("sealing.too_large", what="the header", limit=limit)
    raw = read_exactly(source, length)
    if len(size) < 4 or len(raw) < length:
        raise Refusal("sealing.refused")
    return magic + size + raw, raw


def _parse_header(raw: bytes) -> Header:
    try:
        header = msgspec.json.decode(raw, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("sealing.refused") from error
    if len(raw) > MAX_HEADER_BYTES or canonical(header) != raw:
        raise Refusal("sealing.refused")
    return header


def _check_signature(sender_key: str, domain: str, payload: dict[str, str | int], signature: bytes) -> None:
    try:
        signing.verify(sender_key, domain, payload, signature.hex())
    except Refusal as refusal:
        raise Refusal("sealing.refused") from refusal


def _closing(header_hash: bytes, total: int, content: str) -> dict[str, str | int]:
    """What the trailer's signature says: the header, the plaintext's length, SHA-256 of all bytes before
    it."""
    return {"bytes": total, "content": content, "header": header_hash.hex()}


def _info(binding: Binding, sender_key: str, recipient: str) -> bytes:
    bound = {"binding": binding, "recipient": recipient, "sender_key": sender_key}
    return WRAP_DOMAIN + b"\0" + canonical(bound)


def _derive(data_key: bytes) -> tuple[bytes, bytes]:
    """The frames' key and the commitment to it (32 bytes each), from the wrapped data key."""
    both = HKDF(SHA256(), length=64, salt=None, info=FRAME_KEY_DOMAIN).derive(data_key)
    return both[:32], both[32:]
