"""A name that somebody types to confirm what cannot be undone."""

from __future__ import annotations

import unicodedata


def bare(name: str) -> str:
    """The name as a keyboard makes it: composed, without what is not seen (direction marks, joiners, soft
    hyphens), blanks as single spaces. fedslice.js does the same."""
    composed = unicodedata.normalize("NFC", name)
    seen = "".join(sign for sign in composed if sign.isprintable() or sign.isspace())
    return " ".join(seen.split())


def typed_name(typed: str, name: str) -> bool:
    """Whether what was typed is this name, as people read it; an empty one is nothing typed."""
    return bool(bare(typed)) and bare(typed) == bare(name)
