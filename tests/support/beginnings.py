"""What installations begin with, made once for all tests: a migrated database with one base model on offer,
and a tiny base model. To migrate and to register takes ten seconds of a core, and is the same each time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from tests.support.console import Console

REPOSITORY = Path(__file__).resolve().parents[2]
EMBEDDED = "embedded:all-MiniLM-L6-v2"
DATABASE = "coordinator.sqlite3"


def database(model: str) -> Path:
    """A SQLite database as `migrate` and `register_model` leave it; to be copied, not opened."""

    def make(folder: Path) -> None:
        folder.mkdir()
        console = Console(REPOSITORY, {**os.environ, "FEDSLICE_STATE": str(folder)})
        try:
            console.ask(arguments=["migrate", "--verbosity", "0"], stdin="")
            console.ask(arguments=["register_model", model, "--name", re.split("[:/]", model)[-1]], stdin="")
        finally:
            console.close()
        # All in the one file that is copied, none in a journal beside it.
        with sqlite3.connect(folder / DATABASE) as opened:
            opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        opened.close()

    return _once(f"database-{hashlib.sha256(model.encode()).hexdigest()[:16]}", make) / DATABASE


def tiny_model() -> Path:
    """The folder of a BERT of two layers; to be read only."""
    from tests.jobs.driver import make_model

    return _once("tiny", make_model)


def _once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name, made by whichever worker comes first."""
    shared = Path(os.environ["FEDSLICE_TESTS_SHARED"])
    made = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            unfinished = shared / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(made)
    return made
