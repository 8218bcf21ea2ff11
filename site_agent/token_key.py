"""An approval key on a PKCS#11 token: made there and used there; its private half is never in this process.

Signatures are Ed25519 (RFC 8032) by CKM_EDDSA (PKCS#11 3.0) over the same bytes as any other
approval key's. The token's library is code of its maker that runs in this process, and neither it nor the
token is believed: each signature is verified here, by the public key of the key file, before it is used.
Imported only where a key file names a token: it needs python-pkcs11.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, exceptions

from contracts.refusal import Refusal
from contracts.signing import SigningKey, verify_bytes
from site_agent.approval_key import OnToken
from site_agent.formatting import printable
from site_agent.passphrases import ask_pin

ED25519 = bytes.fromhex("06032b6570")
"""RFC 8410: the curve's object identifier, in DER."""
LABEL = "FedSlice approval key"
PROOF_DOMAIN = "fedslice/approval-key-proof/v1"
"""The signature by which a token shows, once, that it has the key. It is kept nowhere."""


def make_on_token(module: Path, label: str, key: str | None, pin_file: Path | None = None) -> OnToken:
    """Make a key on the token `label`, or take the one there with the id `key` (hex), and see it sign.

    Raises: an `approval_token.` code, or as `ask_pin`.
    """
    library = str(module.expanduser().absolute())
    known = None if key is None else _identifier(key, label)
    token = _find(library, label)
    pin = ask_pin(label, library, pin_file)
    with _session(token, pin, writes=known is None) as session:
        identifier = _generate(session) if known is None else known
        private = _one(session, ObjectClass.PRIVATE_KEY, identifier, label)
        # True only of a key that was drawn on the token: of an imported one there is a copy elsewhere.
        if not (_has(private, Attribute.SENSITIVE) and _has(private, Attribute.NEVER_EXTRACTABLE)):
            raise Refusal("approval_token.key_can_leave", token=label, key=identifier.hex())
        public = _point(_one(session, ObjectClass.PUBLIC_KEY, identifier, label)[Attribute.EC_POINT])
    if public is None:
        raise Refusal("approval_token.no_ed25519", token=label)
    held = OnToken(1, public, library, label, _text(token.serial), identifier.hex())
    TokenKey(held, pin).sign(PROOF_DOMAIN, {"public": public, "nonce": os.urandom(16).hex()})
    return held


class TokenKey(SigningKey):
    """The key as `SigningKey`: it signs, and has no bytes to give. The PIN is kept while the command runs."""

    def __init__(self, held: OnToken, pin: str) -> None:
        self.public = held.public
        self._held = held
        self._pin = pin

    @classmethod
    def open(cls, held: OnToken, pin_file: Path | None = None) -> TokenKey:
        """Ask for the PIN once the token is there, and see that it has the key.

        Raises: an `approval_token.` code, or as `ask_pin`.
        """
        token = _find(held.module, held.token, held.serial)
        opened = cls(held, ask_pin(held.token, held.module, pin_file))
        with _session(token, opened._pin) as session:
            _one(session, ObjectClass.PRIVATE_KEY, bytes.fromhex(held.key), held.token)
        return opened

    def to_bytes(self) -> bytes:
        """There are none here."""
        raise TypeError("the private key never leaves its token")

    def sign_bytes(self, data: bytes) -> bytes:
        """The token's signature, verified.

        Raises: an `approval_token.` code.
        """
        held = self._held
        with _session(_find(held.module, held.token, held.serial), self._pin) as session:
            key = _one(session, ObjectClass.PRIVATE_KEY, bytes.fromhex(held.key), held.token)
            # Some keys want the PIN again for each signature.
            again = {"pin": self._pin} if _has(key, Attribute.ALWAYS_AUTHENTICATE) else {}
            signature = key.sign(data, mechanism=Mechanism.EDDSA, **again)
        try:
            verify_bytes(self.public, data, signature)
        except Refusal as refusal:
            raise Refusal("approval_token.bad_signature", token=held.token) from refusal
        return bytes(signature)


def _find(library: str, label: str, serial: str | None = None) -> pkcs11.Token:
    """The one token with this label that can sign by Ed25519."""
    try:
        loaded = pkcs11.lib(library)
    except exceptions.PKCS11Error as error:
        fault = str(error) or type(error).__name__
        raise Refusal("approval_token.module", module=library, fault=fault) from error
    with _refusing(label):
        found = [
            token
            for token in loaded.get_tokens()
            if token.label == label and serial in (None, _text(token.serial))
        ]
        if not found:
            raise Refusal("approval_token.absent", token=label, serial=serial or "any")
        if len(found) > 1:
            raise Refusal("approval_token.several", token=label, found=len(found))
        if Mechanism.EDDSA not in found[0].slot.get_mechanisms():
            raise Refusal("approval_token.no_ed25519", token=label)
    return found[0]


@contextmanager
def _session(token: pkcs11.Token, pin: str, *, writes: bool = False) -> Iterator[pkcs11.Session]:
    """Logged in as the token's user."""
    with _refusing(token.label), token.open(user_pin=pin, rw=writes) as session:
        yield session


@contextmanager
def _refusing(label: str) -> Iterator[None]:
    try:
        yield
    except (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange) as error:
        raise Refusal("approval_token.wrong_pin", token=label) from error
    except exceptions.PinLocked as error:
        raise Refusal("approval_token.locked", token=label) from error
    except (exceptions.TokenNotPresent, exceptions.DeviceRemoved) as error:
        raise Refusal("approval_token.absent", token=label, serial="any") from error
    except exceptions.PKCS11Error as error:
        raise Refusal("approval_token.failed", token=label, fault=type(error).__name__) from error


def _generate(session: pkcs11.Session) -> bytes:
    """Draw a pair on the token, to stay there; its id."""
    identifier = os.urandom(16)
    curve = session.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: ED25519}, local=True)
    curve.generate_keypair(
        mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
        store=True,
        id=identifier,
        label=LABEL,
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )
    return identifier


def _one(session: pkcs11.Session, kind: ObjectClass, identifier: bytes, label: str) -> Any:
    wanted = {Attribute.CLASS: kind, Attribute.KEY_TYPE: KeyType.EC_EDWARDS, Attribute.ID: identifier}
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        raise Refusal("approval_token.key_absent", token=label, key=identifier.hex(), found=len(found))
    return found[0]


def _has(key: pkcs11.Object, attribute: Attribute) -> bool:
    """What the token says; what it does not know is not so."""
    try:
        return bool(key[attribute])
    except (exceptions.AttributeTypeInvalid, exceptions.AttributeSensitive):
        return False


def _point(encoded: bytes) -> str | None:
    """The public key of an Ed25519 point, bare or as DER's OCTET STRING. None if it is of another curve."""
    bare = encoded[2:] if encoded[:2] == b"\x04\x20" and len(encoded) == 34 else encoded
    return bare.hex() if len(bare) == 32 else None


def _identifier(key: str, label: str) -> bytes:
    try:
        return bytes.fromhex(key)
    except ValueError as error:
        raise Refusal("approval_token.key_absent", token=label, key=printable(key, 64), found=0) from error


def _text(serial: bytes) -> str:
    return serial.decode(errors="backslashreplace")
