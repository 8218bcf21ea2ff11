"""Nonces for challenges: drawn inside the enclave, for one purpose, used once, short-lived."""

from __future__ import annotations

import secrets

from contracts.refusal import Refusal

LIFETIME_SECONDS = 600
MAX_OUTSTANDING = 2048


class Nonces:
    """The nonces that this process has drawn and not yet seen again. A restart forgets, and so refuses,
    all."""

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[str, int]] = {}

    def draw(self, purpose: str, now: int) -> str:
        """A new nonce (32 bytes in hex) for `purpose`. The oldest is forgotten when there are too many."""
        if len(self._drawn) >= MAX_OUTSTANDING:
            del self._drawn[next(iter(self._drawn))]
        nonce = secrets.token_hex(32)
        self._drawn[nonce] = (purpose, now + LIFETIME_SECONDS)
        return nonce

    def spend(self, nonce: str, purpose: str, now: int) -> None:
        """A nonce is gone after the first try, whatever comes of it.

        Raises: `program.nonce_unknown` for what was not drawn here for `purpose`, was spent before, or is
        too old.
        """
        drawn_for, expires = self._drawn.pop(nonce, ("", 0))
        if drawn_for != purpose or now >= expires:
            raise Refusal("program.nonce_unknown")
