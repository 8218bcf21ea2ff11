"""One-time secrets for links and commands. Only their SHA-256 is kept: they carry 256 random bits, so a plain
hash cannot be searched, and a look-up by it tells nothing by its time."""

from __future__ import annotations

import hashlib
import secrets

MAX_TOKEN = 200


def new_token() -> tuple[str, str]:
    """A fresh token and the hash to keep: `fs_` and 43 characters of unpadded base64url, and 64 hex digits.

    It starts with a letter, because a command line would take a leading dash for an option.
    """
    token = f"fs_{secrets.token_urlsafe(32)}"
    return token, token_hash(token)


def token_hash(token: str) -> str:
    """SHA-256 of the token in hex."""
    return hashlib.sha256(token.encode()).hexdigest()
