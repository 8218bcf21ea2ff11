"""Canonical JSON (RFC 8785) and its SHA-256: the one way in which FedSlice names a structured value."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import rfc8785


def canonical(value: Any) -> bytes:
    """The RFC 8785 bytes of a JSON value or of a msgspec Struct."""
    return rfc8785.dumps(msgspec.to_builtins(value))


def digest(value: Any) -> str:
    """SHA-256 of the canonical bytes, in lower-case hex (64 characters)."""
    return hashlib.sha256(canonical(value)).hexdigest()
