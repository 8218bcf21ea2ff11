"""Cells that cannot be used: why, without what stands in them."""

from __future__ import annotations

import math
from typing import Any

MAX_TEXT = 200_000


class Unusable(Exception):
    """Why a row is left out; it holds nothing of the row."""


def text(value: Any, what: str) -> str:
    """The value as a text, to the character."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise Unusable(f"the {what} is missing")
    if not isinstance(value, str):
        raise Unusable(f"the {what} is not text")
    if not value.strip():
        raise Unusable(f"the {what} is empty")
    if len(value) > MAX_TEXT:
        raise Unusable(f"the {what} is longer than {MAX_TEXT:,} characters")
    return sound(value, what)


def sound(value: str, what: str) -> str:
    """Bytes that are not valid in the file's encoding were read as lone surrogates."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable(f"the {what} holds bytes that are not valid in the file's encoding") from None
    if "\x00" in value:
        raise Unusable(f"the {what} holds a NUL character")
    return value
