"""The catalogues: read as they are edited, so that none is ever older than its text."""

from __future__ import annotations

import gettext
import hashlib
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

from translations.po import compiled, read
from translations.spoken import ENGLISH, language

LOCALE = Path(__file__).parent / "locale"
DJANGO = "django"
"""The catalogue of pages, mails and all else that Django translates."""


def words(domain: str) -> Callable[[str], str]:
    """The function `_` of a room: a text -> the same in the language that is spoken."""
    return lambda text: _catalogue(domain, language()).gettext(text)


def plural_words(domain: str) -> Callable[[str, str, int], str]:
    """`ngettext` of a room."""
    return lambda one, many, count: _catalogue(domain, language()).ngettext(one, many, count)


def marked(text: str) -> str:
    """The text as it is, found for the catalogue; `_` translates it where it is said, not where it stands."""
    return text


def path(domain: str, name: str) -> Path:
    """Where the catalogue of a domain lies."""
    return LOCALE / name / "LC_MESSAGES" / f"{domain}.po"


@cache
def _catalogue(domain: str, name: str) -> gettext.NullTranslations:
    file = path(domain, name)
    if name == ENGLISH or not file.exists():
        return gettext.NullTranslations()
    return gettext.GNUTranslations(io.BytesIO(compiled(read(file.read_text("utf-8")))))


def for_django(folder: Path) -> Path:
    """Write Django's catalogues below `folder`, under a name of their own contents, as it reads compiled ones
    only; the path for LOCALE_PATHS. Safe while other processes do the same."""
    sources = {name: path(DJANGO, name).read_bytes() for name in _translated()}
    digest = hashlib.sha256(b"".join(sources[name] for name in sorted(sources))).hexdigest()[:16]
    for name, source in sources.items():
        made = folder / digest / name / "LC_MESSAGES" / f"{DJANGO}.mo"
        if not made.exists():
            made.parent.mkdir(parents=True, exist_ok=True)
            fresh = made.with_name(f"{made.name}.{hashlib.sha256(str(id(made)).encode()).hexdigest()[:8]}")
            fresh.write_bytes(compiled(read(source.decode())))
            fresh.replace(made)
    return folder / digest


def _translated() -> list[str]:
    return sorted(folder.name for folder in LOCALE.iterdir() if (folder / "LC_MESSAGES").is_dir())
