"""The version from which upgrades are promised, as it was tagged: its own code in a folder of its own."""

from __future__ import annotations

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.support.beginnings import REPOSITORY

TAG = "v0.1.0"
COMMIT = "c539b5a70a47cd65b01b6ed7dda4acf108c989e4"
"""By its hash: a copy of the repository may have lost its tags."""
FORMAT = 6
"""Of the log's entries that it writes."""


def checkout(folder: Path) -> Path:
    """Its files, as git keeps them; skips where this copy of the repository does not reach back so far."""
    with tarfile.open(fileobj=BytesIO(_asked("archive", "--format=tar", COMMIT))) as archive:
        archive.extractall(folder, filter="data")
    return folder


def file(path: str) -> bytes:
    """One file of it; skips as `checkout`."""
    return _asked("show", f"{COMMIT}:{path}")


def _asked(*words: str) -> bytes:
    if _git("cat-file", "-e", f"{COMMIT}^{{commit}}").returncode:
        pytest.skip(f"this copy of the repository does not have {TAG} ({COMMIT[:12]}): git fetch --unshallow")
    done = _git(*words)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, check=False)
