"""A sealed conversation between a site and a served model: questions one way, answers the other.

1. The site, which has verified the enclave's evidence, draws a secret, wraps it (HPKE) to the attested key,
   and signs what it sends: HPKE's base mode authenticates nobody.
2. The enclave draws the session's name, and both derive one AES-256-GCM key a direction:
   HKDF-SHA-256(secret, salt = name). As the enclave's half is fresh, a replayed opening gives other keys.
3. The enclave proves with a first sealed message that it has the secret: whoever relays it has not.
4. Every message counts: its number is its nonce, and number, name, direction and whether more follows are
   bound by the tag. Nothing can be swapped, repeated, left out, sent back or cut without being refused.

Neither HKDF, HPKE, GCM nor Ed25519 is ours; this is how they are put together. docs/protocol.md specifies it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from typing import Annotated, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta, Struct

from contracts.canonical import canonical
from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.hpke import WRAP_OVERHEAD, HpkeKey, wrap
from contracts.signing import SigningKey, verify

OPENING_DOMAIN = "fedslice/session-opening/v1"
KEY_DOMAIN = "fedslice/session-key/v1"
MESSAGE_DOMAIN = "fedslice/session-message/v1"
SECRET_BYTES = 32
TAG_BYTES = 16
MAX_MESSAGES = 1 << 31
PROOF = b"fedslice session"

Direction = Literal["question", "answer"]
Base64 = Annotated[str, Meta(max_length=1 << 20)]


class Opening(Struct, frozen=True, forbid_unknown_fields=True):
    """What opens a session: the secret, wrapped to the enclave whose signing key is `enclave`, the run's
    last receipt as the site knows it (its hash), and the site key's signature over all of it."""

    manifest: Hex32
    site: Identifier
    enclave: Hex32
    receipt: Hex32
    wrapped: Base64
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]


class SessionChannel:
    """One end of an open session. `name` is the session's (hex); numbers run from 0 in each direction."""

    def __init__(self, name: str, manifest: str, secret: bytes, *, sends: Direction) -> None:
        self.name = name
        self._manifest = manifest
        self._out, self._in = sends, _other(sends)
        self._keys = {
            direction: _derive(secret, name, manifest, direction) for direction in (sends, _other(sends))
        }
        self.sent = self.received = 0

    def seal(self, content: bytes, *, more: bool = False) -> bytes:
        """The next message of this end: len(content) + TAG_BYTES bytes. `more`: its content goes on in the
        next.

        Raises: `serving.limit`.
        """
        number = self.sent
        if number >= MAX_MESSAGES:
            raise Refusal("serving.limit", limit=MAX_MESSAGES, unit="messages")
        self.sent = number + 1
        key = AESGCM(self._keys[self._out])
        return key.encrypt(_nonce(number), content, self._bound(self._out, number, more))

    def open(self, sealed: bytes, *, more: bool = False) -> bytes:
        """The next message of the other end.

        Raises: `serving.bad_message`, and then nothing has changed.
        """
        number = self.received
        try:
            key = AESGCM(self._keys[self._in])
            content = key.decrypt(_nonce(number), sealed, self._bound(self._in, number, more))
        except (InvalidTag, ValueError) as error:
            raise Refusal("serving.bad_message", number=number) from error
        self.received = number + 1
        return content

    def _bound(self, direction: Direction, number: int, more: bool) -> bytes:
        return canonical(
            {
                "domain": MESSAGE_DOMAIN,
                "manifest": self._manifest,
                "session": self.name,
                "direction": direction,
                "number": number,
                "more": more,
            }
        )


class ClientHello:
    """The site's end before the enclave has answered: `opening` goes out, `finish` takes the answer."""

    def __init__(
        self, manifest: str, site: str, key: SigningKey, *, hpke_key: str, signing_key: str, receipt: str
    ) -> None:
        """`hpke_key` and `signing_key` are the enclave's, from evidence that this site has verified;
        `receipt` is the hash of the last receipt that it has seen."""
        self._secret, self._manifest = secrets.token_bytes(SECRET_BYTES), manifest
        wrapped = wrap(hpke_key, self._secret, _info(manifest, site, signing_key))
        signature = key.sign(OPENING_DOMAIN, _signed(manifest, site, signing_key, receipt, wrapped))
        self.opening = Opening(manifest, site, signing_key, receipt, encode(wrapped), signature)

    def finish(self, name: str, proof: bytes) -> SessionChannel:
        """The session, once its enclave has proven itself.

        Raises: `serving.bad_message`.
        """
        channel = SessionChannel(name, self._manifest, self._secret, sends="question")
        if channel.open(proof) != PROOF:
            raise Refusal("serving.bad_message", number=0)
        return channel


def accept(
    opening: Opening, *, manifest: str, public_key: str, hpke: HpkeKey, signing_key: str
) -> tuple[SessionChannel, bytes]:
    """The enclave's end of a new session, and the proof for the site. `public_key` is the site's in the
    manifest; `hpke` and `signing_key` are the enclave's own.

    Raises: `serving.bad_opening`, whatever is wrong with it.
    """
    try:
        wrapped = decode(opening.wrapped)
        verify(
            public_key,
            OPENING_DOMAIN,
            _signed(manifest, opening.site, signing_key, opening.receipt, wrapped),
            opening.signature,
        )
        if (opening.manifest, opening.enclave) != (manifest, signing_key):
            raise Refusal("serving.bad_opening")
        secret = hpke.unwrap(wrapped, _info(manifest, opening.site, signing_key))
    except Refusal as refusal:
        raise Refusal("serving.bad_opening") from refusal
    if len(secret) != SECRET_BYTES or len(wrapped) != SECRET_BYTES + WRAP_OVERHEAD:
        raise Refusal("serving.bad_opening")
    channel = SessionChannel(secrets.token_hex(32), manifest, secret, sends="answer")
    return channel, channel.seal(PROOF)


def encode(data: bytes) -> str:
    """Base64, for JSON."""
    return base64.b64encode(data).decode()


def decode(text: str) -> bytes:
    """Raises: `serving.bad_message` for what is not Base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal("serving.bad_message", number=-1) from error


def _derive(secret: bytes, name: str, manifest: str, direction: Direction) -> bytes:
    info = canonical({"domain": KEY_DOMAIN, "manifest": manifest, "direction": direction})
    return HKDF(SHA256(), length=32, salt=bytes.fromhex(name), info=info).derive(secret)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _other(direction: Direction) -> Direction:
    return "answer" if direction == "question" else "question"


def _info(manifest: str, site: str, signing_key: str) -> bytes:
    return canonical({"domain": OPENING_DOMAIN, "manifest": manifest, "site": site, "enclave": signing_key})


def _signed(manifest: str, site: str, signing_key: str, receipt: str, wrapped: bytes) -> dict[str, str]:
    return {
        "manifest": manifest,
        "site": site,
        "enclave": signing_key,
        "receipt": receipt,
        "wrapped": hashlib.sha256(wrapped).hexdigest(),
    }
