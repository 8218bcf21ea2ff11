"""One-time secrets for links and commands. Only their SHA-256 is kept: they carry 256 random bits, so a plain
hash cannot be searched, and a look-up by it tells nothing by its time."""

from __future__ import annotations

import base64
import hashlib
import secrets

from django.utils.crypto import salted_hmac

MAX_TOKEN = 200


def new_token() -> tuple[str, str]:
    """A fresh token and the hash to keep: `fs_` and 43 characters of unpadded base64url, and 64 hex digits.

    It starts with a letter, because a command line would take a leading dash for an option.
    """
    token = f"fs_{secrets.token_urlsafe(32)}"
    return token, token_hash(token)


def token_of(salt: str) -> str:
    """The token that belongs to a salt of 256 random bits. Whoever reads the database alone cannot make it:
    the installation's SECRET_KEY is in it (HMAC-SHA256)."""
    made = salted_hmac("federation.tokens", salt, algorithm="sha256").digest()
    return f"fs_{base64.urlsafe_b64encode(made).decode().rstrip('=')}"


def token_hash(token: str) -> str:
    """SHA-256 of the token in hex."""
    return hashlib.sha256(token.encode()).hexdigest()
