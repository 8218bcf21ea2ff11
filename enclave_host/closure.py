"""The closure of an enclave program: every module of ours that it can import, read from the sources alone.

    python -m enclave_host.closure [PROGRAM] [--write] [--count]

The lists stand in `enclave/measured/<program>.modules`, one path a line, so that a change of what an enclave
can load shows in review. They are part of the program's measurement, they say what its Gramine manifest
mounts, and inside an enclave nothing else of ours can be imported (`attestation/guard.py`). Without an option
this checks the lists and fails on a stale one; `--write` writes them, `--count` counts lines of code.

Followed are all import statements, also those inside functions; left out is what stands under
`if TYPE_CHECKING`, which never runs. Importing a module runs the `__init__` of its packages: they are listed.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from attestation.measured import PROGRAMS, TREE, list_of
from contracts.policy import Program

OURS = ("contracts", "attestation", "enclave")
"""The packages that an enclave may load from. import-linter keeps these from importing any other of ours."""


def reading_order(program: Program, tree: Path = TREE) -> list[str]:
    """The closure's paths, relative to `tree`, each after what it imports (but in circles)."""
    order: dict[str, None] = {}
    _visit(_file_of(f"enclave.programs.{program}", tree), tree, set(), order)
    return list(order)


def closure(program: Program, tree: Path = TREE) -> list[str]:
    """The closure's paths, relative to `tree`, sorted: the content of the program's list."""
    return sorted(reading_order(program, tree))


def outside(program: Program, tree: Path = TREE) -> set[str]:
    """The top-level names that the closure imports and that are neither ours nor Python's own."""
    names = {name.partition(".")[0] for path in closure(program, tree) for name in _imported(tree / path)}
    return names - set(sys.stdlib_module_names) - set(OURS)


@cache
def lines_of_code(source: str) -> int:
    """The lines of a module that hold code: without blank lines, comments and docstrings."""
    words: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            words.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        for statement in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            # docstrings, and the strings by which we document constants
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                words -= set(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    return len(words)


def count(paths: Iterable[str], tree: Path = TREE) -> int:
    """Lines of code of these files together."""
    return sum(lines_of_code((tree / path).read_text()) for path in paths)


_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def _visit(file: str | None, tree: Path, seen: set[str], order: dict[str, None]) -> None:
    if file is None or file in seen:
        return
    seen.add(file)
    for name in _imported(tree / file):
        if name.partition(".")[0] in OURS:
            _visit(_file_of(name, tree), tree, seen, order)
    order[file] = None


def _file_of(module: str, tree: Path) -> str | None:
    """The path of a module or of a package's `__init__`; None for a name inside a module."""
    path = module.replace(".", "/")
    return next((name for name in (f"{path}.py", f"{path}/__init__.py") if (tree / name).is_file()), None)


def _imported(file: Path) -> tuple[str, ...]:
    """Every module that the file's statements may import, each after the packages that it lies in."""
    try:
        return _imported_by(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


@cache
def _imported_by(source: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_names(source)))


def _names(source: str) -> Iterator[str]:
    for node in _statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError("relative imports are not followed; write the whole name")
            named = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in named:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes in the order of the text, without what only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_for_types(child.test):
            for statement in child.orelse:
                yield from _statements(statement)
        else:
            yield from _statements(child)


def _is_for_types(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def main(arguments: list[str] | None = None) -> int:
    """Check the lists of modules that each enclave program can load, or write them."""
    parser = argparse.ArgumentParser(prog="python -m enclave_host.closure", description=main.__doc__)
    parser.add_argument("program", nargs="?", choices=PROGRAMS, help="only this one")
    parser.add_argument("--write", action="store_true", help="write the lists again")
    parser.add_argument("--count", action="store_true", help="print files and lines of code")
    parser.add_argument("--tree", type=Path, default=TREE, help="source tree (default: this one)")
    options = parser.parse_args(arguments)
    stale = []
    for program in (options.program,) if options.program else PROGRAMS:
        paths = closure(program, options.tree)
        text, file = "".join(f"{path}\n" for path in paths), options.tree / list_of(program)
        if options.write:
            file.write_text(text)
        elif not file.is_file() or file.read_text() != text:
            stale.append(list_of(program))
        if options.count:
            sys.stdout.write(f"{count(paths, options.tree):6d} lines in {len(paths)} files  {program}\n")
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run `make closure` and review what changed\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
