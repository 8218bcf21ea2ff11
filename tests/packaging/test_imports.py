"""Every name that a file imports from another of ours is there.

Tests and benchmarks, which mypy does not read, are found here when something moved, not in the long run.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.packaging.test_docstrings import parsed
from tests.packaging.test_words import tracked
from tests.support.installation import REPOSITORY

SOURCES = [path for path in tracked("*.py", ":!*/migrations/*") if "/" in path]
TOPS = {path.split("/")[0] for path in SOURCES}


def file_of(module: str) -> Path | None:
    place = REPOSITORY.joinpath(*module.split("."))
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


@cache
def names_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(parsed(path)):
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                found.add(node.name)
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
            case ast.Import() | ast.ImportFrom():
                found |= {(name.asname or name.name).split(".")[0] for name in node.names}
    return found


def missing_in(tree: ast.Module) -> list[str]:
    gone = []
    for node in ast.walk(tree):
        if (
            not isinstance(node, ast.ImportFrom)
            or node.module is None
            or node.module.split(".")[0] not in TOPS
        ):
            continue
        path, folder = file_of(node.module), REPOSITORY.joinpath(*node.module.split("."))
        for name in node.names:
            at = f"{node.module}.{name.name}"
            here = path is not None and (name.name == "*" or name.name in names_of(path))
            if not (here or file_of(at) or (folder / name.name).is_dir()):
                gone.append(at)
    return gone


@pytest.mark.parametrize("top", sorted(TOPS))
def test_what_is_imported_is_there(top: str) -> None:
    gone = {
        path: missing
        for path in SOURCES
        if path.startswith(f"{top}/") and (missing := missing_in(parsed(REPOSITORY / path)))
    }
    assert not gone


def test_a_name_that_moved_away_would_be_seen() -> None:
    source = "from enclave_jobs.models import Job\nfrom enclave_jobs.jobs.models import Job\n"
    assert missing_in(ast.parse(source)) == ["enclave_jobs.models.Job"]
