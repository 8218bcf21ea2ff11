"""Files of words and tags, as CoNLL's shared tasks have them: a word a line with its tag last, sentences
apart by empty lines, documents by -DOCSTART-."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MAX_WORDS = 10_000
_TAG = re.compile(r"(O|[BI]-\S+)")
_DOCUMENT = "-DOCSTART-"


def is_conll(text: str) -> bool:
    """Whether each line of a sample, but for the last, which may be cut, is empty or ends in a tag, and there
    are tags of both kinds and sentences apart."""
    lines = text.splitlines()
    if len(text) >= 1 << 20:
        lines = lines[:-1]
    words = [line.split() for line in lines if line.strip() and not line.startswith(_DOCUMENT)]
    tagged = all(len(parts) > 1 and _TAG.fullmatch(parts[-1]) for parts in words)
    return bool(words) and tagged and any(parts[-1] != "O" for parts in words) and "" in map(str.strip, lines)


def sentences(lines: Iterable[str]) -> Iterator[tuple[int, list[str], list[str] | None]]:
    """Each sentence: the line of its first word, its words, and their tags; None where one has none."""
    tokens: list[str] = []
    tags: list[str] = []
    first, sound = 0, True
    for number, line in enumerate(_ended(lines), start=1):
        parts = line.split()
        if not parts or line.startswith(_DOCUMENT):
            if tokens:
                yield first, tokens, tags if sound and len(tokens) <= MAX_WORDS else None
            first, tokens, tags, sound = 0, [], [], True
            continue
        first = first or number
        sound = sound and len(parts) > 1
        tokens.append(parts[0])
        tags.append(parts[-1])


def _ended(lines: Iterable[str]) -> Iterator[str]:
    yield from lines
    yield ""
