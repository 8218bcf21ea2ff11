"""`manage.py` for people: what no command has foreseen is a line with words and a code, never a traceback.

`--traceback` shows all, as Django has it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db.migrations.exceptions import MigrationSchemaMissing
from django.db.utils import OperationalError, ProgrammingError

from contracts.refusal import Refusal
from error_catalogue import explain
from error_catalogue.last_resort import kept_for_us, refusal_of
from translations.catalogues import DJANGO
from translations.catalogues import words as words_of
from translations.spoken import of_terminal, speaking

_ = words_of(DJANGO)
"""Django's own may not be there: what fails can be its settings."""


def run(arguments: list[str]) -> int:
    """One command; the exit status. Commands with a status of their own raise SystemExit, as Django does."""
    if "--traceback" in arguments:
        execute_from_command_line(arguments)
        return 0
    try:
        execute_from_command_line(arguments)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, EOFError):
        with speaking(of_terminal(os.environ)):
            sys.stderr.write(f"\n{_('Stopped.')}\n")
        return 130
    except Exception as error:
        refusal = _refusal_of(error)
        with speaking(of_terminal(os.environ)):
            words = explain(refusal.code, refusal.facts)
        sys.stderr.write(f"{words.message} [{refusal.code}]\n{words.hint}\n")
        return 1
    return 0


def _refusal_of(error: Exception) -> Refusal:
    match error:
        case Refusal():
            return error
        case ImproperlyConfigured():
            return Refusal("coordinator.settings", fault=str(error)[:500])
        case OperationalError() | ProgrammingError() | MigrationSchemaMissing():
            return _of_database(str(error)) or _kept(error)
        case OSError():
            return refusal_of(error, "coordinator")
    return _kept(error)


def _of_database(text: str) -> Refusal | None:
    """SQLite and PostgreSQL say by text alone what is the matter; neither quotes a password."""
    first = text.partition("\n")[0][:300]
    if "no such table" in text or ("relation" in text and "does not exist" in text):
        return Refusal("coordinator.not_migrated")
    if "disk is full" in text or "No space left" in text:
        return Refusal("coordinator.no_space", file="the database")
    if "syntax error" in text:
        return None
    return Refusal("coordinator.database", fault=first)


def _kept(error: Exception) -> Refusal:
    folder = os.environ.get("FEDSLICE_STATE") or Path(__file__).resolve().parent.parent / "var"
    return kept_for_us(error, Path(folder), "coordinator")
