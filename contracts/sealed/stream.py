"""Sealed streams: how every large secret travels and rests (updates, next states, feature shards).

docs/protocol.md specifies the format. A header names the binding (run manifest, round, kind, sender), the
sender's signing key, and holds a data key wrapped by HPKE for each receiver; frames follow; a trailer ends
it. The sender signs the header and, in the trailer, the SHA-256 of everything before it. The second signature
also keeps one receiver, who knows the data key, from rewriting the stream for another.

What is sealed once is stored and re-sent byte for byte: a resumed upload never encrypts again.
"""

from __future__ import annotations

import secrets
from typing import Annotated, BinaryIO, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct

from contracts import signing
from contracts.canonical import canonical
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.container import FileRef, Reader, parse_header, reading, writing
from contracts.sealed.frames import MAX_PLAINTEXT_BYTES
from contracts.sealed.hpke import WRAP_OVERHEAD, HpkeKey, wrap
from contracts.signing import SigningKey

MAGIC = b"fedslice-sealed/1\n"
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


class StreamHeader(Struct, frozen=True, forbid_unknown_fields=True):
    """The clear part. `commitment` ties all receivers to one data key, hence to one plaintext: GCM alone does
    not commit to its key."""

    binding: Binding
    sender_key: Hex32
    commitment: Hex32
    recipients: Annotated[dict[Party, Wrapped], Meta(min_length=1, max_length=MAX_RECIPIENTS)]
    cipher: Literal["aes-256-gcm"] = "aes-256-gcm"


def seal(
    source: BinaryIO, target: BinaryIO, *, binding: Binding, recipients: dict[str, str], signer: SigningKey
) -> FileRef:
    """Seal all of `source` into `target` for `recipients` (name -> HPKE public key in hex). Constant memory.

    Runs in the enclave (or, in Method 2, at the site) that holds `signer`. On an exception `target` holds
    garbage that opens nowhere.

    Raises: `sealing.too_many_recipients`, `sealing.bad_key` or `sealing.refused` (a binding that breaks its
    own pattern).
    """
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise Refusal("sealing.too_many_recipients", recipients=len(recipients), limit=MAX_RECIPIENTS)
    data_key = secrets.token_bytes(DATA_KEY_BYTES)
    frame_key, commitment = _derive(data_key)
    header = StreamHeader(
        binding=binding,
        sender_key=signer.public,
        commitment=commitment.hex(),
        recipients={
            name: wrap(key, data_key, _info(binding, signer.public, name)) for name, key in recipients.items()
        },
    )
    with writing(target, MAGIC, header) as container:
        container.put(bytes.fromhex(signer.sign(HEADER_DOMAIN, {"header": container.context.hex()})))
        total = container.frames(source, frame_key)
        closing = _closing(container.context, total, container.ref.sha256)
        container.put(bytes.fromhex(signer.sign(STREAM_DOMAIN, closing)))
        return container.ref


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
) -> FileRef:
    """Open `source` into `target`; returns the name and length of the sealed bytes that were read.

    Runs inside the receiver's enclave. The header's signature by `sender_key` is checked before anything in
    it is read, each frame's tag before it is written, the sender's signature over the whole before this
    returns. On any failure `target` is cut back to where it was, so nothing unauthenticated stays in it; it
    must be seekable.

    `sha256`, where given, is the name that the stream must have: checking it here, in the one reading,
    leaves a host no moment to swap the file after it was checked.

    Raises: `sealing.refused` for every failure to open, `sealing.not_sealed` for other formats,
    `sealing.too_large` for beyond `limit` plaintext bytes.
    """
    with reading(source, target, MAGIC) as container:
        _check_signature(container, sender_key, HEADER_DOMAIN, {"header": container.context.hex()})

        header = parse_header(container.header, StreamHeader)
        if header.binding != binding or header.sender_key != sender_key or recipient not in header.recipients:
            raise Refusal("sealing.refused")
        data_key = key.unwrap(header.recipients[recipient], _info(binding, sender_key, recipient))
        frame_key, commitment = _derive(data_key)
        if commitment.hex() != header.commitment:
            raise Refusal("sealing.refused")

        total = container.frames(target, frame_key, limit)
        closing = _closing(container.context, total, container.ref.sha256)
        _check_signature(container, sender_key, STREAM_DOMAIN, closing)
        if sha256 not in (None, container.ref.sha256):
            raise Refusal("sealing.refused")
        return container.ref


def _check_signature(container: Reader, sender_key: str, domain: str, payload: dict[str, str | int]) -> None:
    """Read the next 64 bytes as a signature over `payload`."""
    try:
        signing.verify(sender_key, domain, payload, container.get(SIGNATURE_BYTES).hex())
    except Refusal as refusal:
        raise Refusal("sealing.refused") from refusal


def _closing(context: bytes, total: int, content: str) -> dict[str, str | int]:
    """What the trailer's signature says: the header, the plaintext's length, SHA-256 of all bytes before
    it."""
    return {"bytes": total, "content": content, "header": context.hex()}


def _info(binding: Binding, sender_key: str, recipient: str) -> bytes:
    bound = {"binding": binding, "recipient": recipient, "sender_key": sender_key}
    return WRAP_DOMAIN + b"\0" + canonical(bound)


def _derive(data_key: bytes) -> tuple[bytes, bytes]:
    """The frames' key and the commitment to it (32 bytes each), from the wrapped data key."""
    both = HKDF(SHA256(), length=64, salt=None, info=FRAME_KEY_DOMAIN).derive(data_key)
    return both[:32], both[32:]
