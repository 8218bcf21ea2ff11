"""Words and their tags, as a row keeps them: as many tags as words, strictly IOB2 (contracts/entities.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.entities import OUTSIDE
from site_agent.datasets.readers import Nested
from site_agent.datasets.unusable import Unusable, sound

MAX_WORDS = 10_000
MAX_TYPE = 100


def items(value: Any, what: str) -> list[Any]:
    """The list in a cell. Raises Unusable."""
    held = value.value if isinstance(value, Nested) else value
    if not isinstance(held, list) or not held:
        raise Unusable(f"the {what} are no list, or an empty one")
    if len(held) > MAX_WORDS:
        raise Unusable(f"there are more than {MAX_WORDS:,} {what}")
    return held


def tagged(tokens: Sequence[Any], tags: Sequence[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Both, checked. Raises Unusable."""
    if len(tokens) != len(tags):
        raise Unusable(f"there are {len(tokens)} tokens and {len(tags)} tags")
    before = OUTSIDE
    for place, (token, tag) in enumerate(zip(tokens, tags, strict=True), start=1):
        if not isinstance(token, str) or not token.strip():
            raise Unusable(f"token {place} is empty, or no text")
        sound(token, "token")
        if not isinstance(tag, str):
            raise Unusable(f"tag {place} is a number; names are needed, as B-DRUG")
        if tag != OUTSIDE and not (tag[:2] in ("B-", "I-") and tag[2:].strip() and tag.isprintable()):
            raise Unusable(f"tag {place} is none of O, B-TYPE, I-TYPE (IOB2)")
        if len(tag) > MAX_TYPE:
            raise Unusable(f"tag {place} is longer than {MAX_TYPE} characters")
        if tag.startswith("I-") and before[2:] != tag[2:]:
            raise Unusable(f"tag {place} goes on with an entity that has not begun (IOB2 is needed)")
        before = tag
    return tuple(tokens), tuple(tags)
