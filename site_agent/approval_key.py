"""The approval key at rest: the key that speaks for the hospital, and needs a person to do so.

Its file is sealed by a passphrase: Argon2id (RFC 9106) makes a key of it, AES-256-GCM seals the seed under
that. One try costs 256 MiB and about a second, so that who copies the file (a backup, the state folder) can
try few passphrases; the cost is fixed by the version and not read from the file. Of a key on a PKCS#11 token
the file only says where it is, and the token's PIN opens it. A development key lies open. The file may be
kept anywhere; what travels to the machine that is online is its public half (`.pub`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from msgspec import Meta, Struct

from contracts.canonical import canonical
from contracts.kept_keys import signing_key, signing_secret
from contracts.manifest import Manifest
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from site_agent.files import create_private, write_private
from site_agent.passphrases import ask_passphrase

MEMORY_KIB, PASSES, LANES = 256 * 1024, 3, 4
MAX_FILE_BYTES = 4096


class Sealed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sealed"):
    """The seed under a passphrase; salt, nonce and ciphertext in hex. Public key and salt are bound to it."""

    version: Literal[1]
    public: Hex32
    salt: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    nonce: Annotated[str, Meta(pattern=r"^[0-9a-f]{24}\Z")]
    sealed: Annotated[str, Meta(pattern=r"^[0-9a-f]{96}\Z")]


class Development(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="development"):
    """A seed that lies open: for demonstrations and tests, on the development trust root alone."""

    version: Literal[1]
    public: Hex32
    secret: Hex32


class OnToken(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="token"):
    """Where a key is that never leaves its token: the PKCS#11 library's path, the token's label and serial
    number, the key's id (CKA_ID, hex). Nothing here is a secret."""

    version: Literal[1]
    public: Hex32
    module: Annotated[str, Meta(pattern=r"^/[^\x00]{1,1000}\Z")]
    token: Annotated[str, Meta(min_length=1, max_length=32)]
    serial: Annotated[str, Meta(max_length=64)]
    key: Annotated[str, Meta(pattern=r"^([0-9a-f]{2}){1,64}\Z")]


class Public(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="public"):
    """The public half alone."""

    version: Literal[1]
    public: Hex32


KeyFile = Sealed | Development | OnToken | Public


def create_sealed(file: Path, passphrase: str) -> Sealed:
    """Draw a key, seal it into a new file, and put its public half beside it (`FILE.pub`).

    Raises: `approval_key.exists`.
    """
    made = _seal(SigningKey.generate(), passphrase)
    _create(file, made)
    _put_public_half(file, made.public)
    return made


def create_on_token(
    file: Path, module: Path, label: str, key: str | None, pin_file: Path | None = None
) -> OnToken:
    """Make a key on a token (or take the one there with the id `key`), write into a new file where it is,
    and put its public half beside it.

    Raises: `approval_key.exists`, or as `make_on_token`.
    """
    with _needing_pkcs11():
        from site_agent.token_key import make_on_token
    if file.exists():
        raise Refusal("approval_key.exists", file=str(file))
    made = make_on_token(module, label, key, pin_file)
    _create(file, made)
    _put_public_half(file, made.public)
    return made


def create_development(file: Path) -> Development:
    """Draw a key into a new file that anybody who has it can use.

    Raises: `approval_key.exists`.
    """
    key = SigningKey.generate()
    made = Development(1, key.public, signing_secret(key).hex())
    _create(file, made)
    return made


def public_half(file: Path) -> Path:
    """Where the public half of a new key is put."""
    return file.with_name(f"{file.name}.pub")


def read_key_file(file: Path) -> KeyFile:
    """Raises: `approval_key.missing` or `approval_key.damaged`."""
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(MAX_FILE_BYTES), type=KeyFile)
    except FileNotFoundError as error:
        raise Refusal("approval_key.missing", file=str(file)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal("approval_key.damaged", file=str(file)) from error


def unseal_key(file: Path, held: Sealed, passphrase: str) -> SigningKey:
    """Raises: `approval_key.wrong_passphrase`, or `approval_key.damaged` if it is another file's key."""
    cipher = AESGCM(_stretch(passphrase, bytes.fromhex(held.salt)))
    try:
        seed = cipher.decrypt(
            bytes.fromhex(held.nonce), bytes.fromhex(held.sealed), _bound(held.public, held.salt)
        )
    except InvalidTag as error:
        raise Refusal("approval_key.wrong_passphrase", file=str(file)) from error
    key = signing_key(seed)
    if key.public != held.public:
        raise Refusal("approval_key.damaged", file=str(file))
    return key


def change_passphrase(file: Path, held: Sealed, old: str, new: str) -> None:
    """Seal the same key under another passphrase. Copies of the file keep the old one.

    Raises: as `unseal_key`; then nothing has changed.
    """
    write_private(file, msgspec.json.encode(_seal(unseal_key(file, held, old), new)) + b"\n")


class ApprovalKey:
    """The key as a command uses it: opened once, when the first signature is due."""

    def __init__(self, file: Path, passphrase_file: Path | None = None) -> None:
        """`passphrase_file` stands in for a person at a terminal."""
        self.file = file
        self._passphrase_file = passphrase_file
        self._key: SigningKey | None = None

    def of(self, manifest: Manifest, site: str) -> SigningKey:
        """The key, fit to sign for this site and this manifest.

        Raises: `approval_key.other`, `approval_key.development` for outside of the development trust root,
        `approval_key.public_only`, or as `read_key_file`, `ask_passphrase`, `unseal_key` and
        `TokenKey.open`.
        """
        held, member = read_key_file(self.file), manifest.site(site)
        if held.public != member.approval_key:
            raise Refusal("approval_key.other", file=str(self.file))
        if isinstance(held, Development) and manifest.policy.root != "development":
            raise Refusal("approval_key.development", runtime=manifest.runtime)
        if isinstance(held, Public):
            raise Refusal("approval_key.public_only", file=str(self.file))
        if self._key is None:
            self._key = self._open(held)
        return self._key

    def _open(self, held: Sealed | Development | OnToken) -> SigningKey:
        if isinstance(held, OnToken):
            with _needing_pkcs11():
                from site_agent.token_key import TokenKey
            return TokenKey.open(held, self._passphrase_file)
        if isinstance(held, Development):
            key = signing_key(bytes.fromhex(held.secret))
            if key.public != held.public:
                raise Refusal("approval_key.damaged", file=str(self.file))
            return key
        return unseal_key(self.file, held, ask_passphrase(self.file, self._passphrase_file))


@contextmanager
def _needing_pkcs11() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise Refusal("approval_token.no_library") from error


def _put_public_half(file: Path, public: str) -> None:
    write_private(public_half(file), msgspec.json.encode(Public(1, public)) + b"\n")


def _create(file: Path, made: KeyFile) -> None:
    if not create_private(file, msgspec.json.encode(made) + b"\n"):
        raise Refusal("approval_key.exists", file=str(file))


def _seal(key: SigningKey, passphrase: str) -> Sealed:
    salt, nonce = os.urandom(16), os.urandom(12)
    cipher = AESGCM(_stretch(passphrase, salt))
    sealed = cipher.encrypt(nonce, signing_secret(key), _bound(key.public, salt.hex()))
    return Sealed(1, key.public, salt.hex(), nonce.hex(), sealed.hex())


def _stretch(passphrase: str, salt: bytes) -> bytes:
    derive = Argon2id(salt=salt, length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)
    return derive.derive(passphrase.encode())


def _bound(public: str, salt: str) -> bytes:
    return canonical({"domain": "fedslice/approval-key/v1", "public": public, "salt": salt})
