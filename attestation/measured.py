"""Which files of ours a program may load: the list that its measurement covers, and its guard enforces.

One path a line in `enclave/measured/PROGRAM.modules`, relative to the tree. That a list is complete is shown
outside (`python -m enclave_host.closure`).
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from contracts.policy import Program
from contracts.refusal import Refusal

PROGRAMS: tuple[Program, ...] = get_args(Program)
TREE = Path(__file__).resolve().parents[1]
MEASURED = "enclave/measured"


def list_of(program: Program) -> str:
    """The path, relative to the tree, of the list of the program's modules: one path a line."""
    return f"{MEASURED}/{program}.modules"


def modules_of(program: Program, tree: Path = TREE) -> tuple[str, ...]:
    """The paths, relative to `tree`, of all modules of ours that the program may load.

    Raises: `measurement.missing`.
    """
    return tuple(read_measured(list_of(program), tree).decode().split())


def read_measured(name: str, tree: Path) -> bytes:
    """The content of a file of the tree.

    Raises: `measurement.missing`.
    """
    try:
        return (tree / name).read_bytes()
    except OSError as error:
        raise Refusal("measurement.missing", file=name) from error
