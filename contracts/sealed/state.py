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

import secrets
from typing import Annotated, BinaryIO

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct

from contracts.policy import Hex32, Program
from contracts.refusal import Refusal
from contracts.sealed.container import FileRef, parse_header, read_header, reading, writing
from contracts.sealed.escrow import Escrow
from contracts.sealed.frames import MAX_PLAINTEXT_BYTES

MAGIC = b"fedslice-state/1\n"
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
    sealed: FileRef


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    binding: StateBinding
    salt: Hex32
    escrow: Escrow | None = None


def seal_state(
    source: BinaryIO, target: BinaryIO, *, key: bytes, binding: StateBinding, escrow: Escrow | None = None
) -> FileRef:
    """Seal all of `source` into `target` under the TEE's sealing key (32 bytes), or a drawn key of which
    the sites hold shares (`escrow`, which stands in the clear). Runs inside the enclave, in constant
    memory.

    Raises: `sealing.bad_key`.
    """
    header = _Header(binding, secrets.token_bytes(32).hex(), escrow)
    with writing(target, MAGIC, header) as container:
        container.frames(source, _derive(key, header, container.context))
        return container.ref


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

    On any failure `target` (seekable) is cut back to where it was.

    Raises: `sealing.refused` for every failure to open, `sealing.not_sealed`, `sealing.too_large` or
    `sealing.bad_key`.
    """
    with reading(source, target, MAGIC) as container:
        header = parse_header(container.header, _Header)
        if (header.binding.program, header.binding.manifest) != (program, manifest):
            raise Refusal("sealing.refused")
        container.frames(target, _derive(key, header, container.context), limit)
        return OpenedState(header.binding, container.ref)


def read_escrow(source: BinaryIO) -> Escrow | None:
    """The shares of the key that `source` is sealed under; None where it is a TEE's own. Nothing is
    believed yet: a wrong escrow makes no key that opens the rest.

    Raises: `sealing.*`.
    """
    return parse_header(read_header(source, MAGIC)[1], _Header).escrow


def _derive(key: bytes, header: _Header, context: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise Refusal("sealing.bad_key", kind="sealing key")
    info = STATE_DOMAIN + b"\0" + context
    return HKDF(SHA256(), length=32, salt=bytes.fromhex(header.salt), info=info).derive(key)
