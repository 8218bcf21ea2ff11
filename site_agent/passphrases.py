"""Passphrases and PINs: asked at a terminal, or read from a file or an inherited descriptor (`/dev/fd/3`).

Never from an argument or a variable of the environment: every process of the machine could read it there.
"""

from __future__ import annotations

import getpass
import stat
import sys
import unicodedata
from pathlib import Path

from contracts.refusal import Refusal
from site_agent.formatting import printable
from translations.catalogues import words

_ = words("site_agent")

LEAST = 12
"""Characters."""
MAX_BYTES = 1024


def ask_passphrase(key: Path, file: Path | None = None, *, word: str = "Passphrase") -> str:
    """The passphrase of the approval key in the file `key`, from `file` or else a person.

    Raises: `approval_key.needs_passphrase`, or `approval_key.exposed` for a file that others can read.
    """
    return _normal(_answer(_("%(word)s of the approval key %(key)s: ") % {"word": word, "key": key}, file))


def ask_pin(token: str, module: str, file: Path | None = None) -> str:
    """The PIN of a token, as it is typed: the token compares bytes. The library that will read it is named.

    Raises: as `ask_passphrase`.
    """
    return _answer(
        _('PIN of the token "%(token)s", for %(module)s: ')
        % {"token": printable(token, 64), "module": printable(module, 200)},
        file,
    )


def new_passphrase(key: Path, file: Path | None = None) -> str:
    """A passphrase for a key that is being made: a person types it twice.

    Raises: as `ask_passphrase`, `approval_key.short_passphrase` or `approval_key.passphrases_differ`.
    """
    chosen = ask_passphrase(key, file, word=_("New passphrase"))
    if len(chosen) < LEAST:
        raise Refusal("approval_key.short_passphrase", found=len(chosen), least=LEAST)
    if file is None and ask_passphrase(key, word=_("Again, the new passphrase")) != chosen:
        raise Refusal("approval_key.passphrases_differ")
    return chosen


def _answer(question: str, file: Path | None) -> str:
    if file is not None:
        return _from(file)
    if not sys.stdin.isatty():
        raise Refusal("approval_key.needs_passphrase")
    return getpass.getpass(question)


def _from(file: Path) -> str:
    """Its first line. A pipe has no other readers; a file may."""
    with file.open("rb") as opened:
        mode = file.stat().st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            raise Refusal("approval_key.exposed", file=str(file))
        data = opened.read(MAX_BYTES)
    lines = data.decode(errors="replace").splitlines()
    return lines[0] if lines else ""


def _normal(text: str) -> str:
    """One spelling of each letter (NFKC), whatever keyboard typed it."""
    return unicodedata.normalize("NFKC", text)
