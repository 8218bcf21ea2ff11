"""Sealed state: what an enclave leaves with its host so that its successor can go on.

It is encrypted under a key that the TEE derives for the program alone (SGX's sealing key; the development
platform's in its place) or, on TDX, under a drawn key in shares (contracts/sealed/shares.py); one key a blob
by HKDF with a random salt, in the frames of contracts/sealed/frames.py. The host stores it and can give back
an older one: encryption does not stop a rollback. The guard is this:

1. the receipt of round r names the SHA-256 of the state sealed in round r (`state`);
2. the state is bound to its round and to the receipt before it, and says so when it is opened;
3. the successor lets the sites tell which receipt was last: the next roster's `previous`, which each
contributor
   countersigns, must be the hash of the receipt whose `state` is the SHA-256 of the blob that was opened.

So a host that rolls the enclave back needs the contributors' signatures under a past that they know to be
over.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, BinaryIO

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct

from contracts.canonical import canonical
from contracts.policy import Hex32, Program
from contracts.refusal import Refusal
from contracts.sealed.escrow import Escrow
from contracts.sealed.frames import MAX_PLAINTEXT_BYTES, Chunk, HashBeside, decrypt_frames, encrypt_frames
from contracts.sealed.stream import SealedFile, read_header, taking_back

MAGIC = b"fedslice-state/1\n"
MAX_HEADER_BYTES = 2 << 20
KEY_BYTES = 32
STATE_DOMAIN = b"fedslice/state/v1"


class StateBinding(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose state it is and how far it has come. `receipt` is the hash of the last receipt before it
    (receipts.NO_RECEIPT before the first)."""

    program: Program
    manifest: Hex32
    round: Annotated[int, Meta(ge=0, lt=2**31)]
    receipt: Hex32


class OpenedState(Struct, frozen=True):
    """What an opened blob is bound to, and its name, which the receipt of `binding.round` must give as
    `state`."""

    binding: StateBinding
    sealed: SealedFile


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    binding: StateBinding
    salt: Hex32
    escrow: Escrow | None = None


def seal_state(
    source: BinaryIO, target: BinaryIO, *, key: bytes, binding: StateBinding, escrow: Escrow | None = None
) -> SealedFile:
    """Seal all of `source` into `target` under the TEE's sealing key (32 bytes), or a drawn key of which the
    sites hold shares (`escrow`, which stands in the clear). Runs inside the enclave, in constant memory.
    Refuses with `sealing.bad_key`."""
    raw = canonical(_Header(binding, secrets.token_bytes(32).hex(), escrow))
    header = _parse(raw)
    prefix = MAGIC + len(raw).to_bytes(4, "big") + raw
    context = hashlib.sha256(prefix).digest()
    written = 0
    with HashBeside() as content:

        def emit(*chunks: Chunk) -> None:
            nonlocal written
            content.update(*chunks)
            for chunk in chunks:
                target.write(chunk)
                written += len(chunk)

        frame_key = _derive(key, header, context)
        emit(prefix)
        encrypt_frames(source, emit, key=frame_key, context=context)
        return SealedFile(content.hexdigest(), written)


def unseal_state(
    source: BinaryIO,
    target: BinaryIO,
    *,
    key: bytes,
    program: Program,
    manifest: str,
    limit: int = MAX_PLAINTEXT_BYTES,
) -> OpenedState:
    """Open `source` into `target`, inside the successor. The caller goes on only after the rollback guard
    above.

    On any failure `target` (seekable) is cut back to where it was. Refuses with `sealing.refused` for every
    failure to open, `sealing.not_sealed`, `sealing.too_large` or `sealing.bad_key`.
    """
    read = 0
    with taking_back(target), HashBeside() as content:

        def take(*chunks: Chunk) -> None:
            nonlocal read
            content.update(*chunks)
            read += sum(map(len, chunks))

        prefix, raw = read_header(source, MAGIC, MAX_HEADER_BYTES)
        take(prefix)
        context = hashlib.sha256(prefix).digest()
        header = _parse(raw)
        if (header.binding.program, header.binding.manifest) != (program, manifest):
            raise Refusal("sealing.refused")
        frame_key = _derive(key, header, context)
        decrypt_frames(source, target, take, key=frame_key, context=context, limit=limit)
        if source.read(1):
            raise Refusal("sealing.refused")
        return OpenedState(header.binding, SealedFile(content.hexdigest(), read))


def read_escrow(source: BinaryIO) -> Escrow | None:
    """The shares of the key that `source` is sealed under; None where it is a TEE's own. Nothing is believed
    yet: a wrong escrow makes no key that opens the rest. Refuses with `sealing.*`."""
    return _parse(read_header(source, MAGIC, MAX_HEADER_BYTES)[1]).escrow


def _parse(raw: bytes) -> _Header:
    try:
        header = msgspec.json.decode(raw, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("sealing.refused") from error
    if canonical(header) != raw:
        raise Refusal("sealing.refused")
    return header


def _derive(key: bytes, header: _Header, context: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise Refusal("sealing.bad_key", kind="sealing key")
    info = STATE_DOMAIN + b"\0" + context
    return HKDF(SHA256(), length=32, salt=bytes.fromhex(header.salt), info=info).derive(key)
