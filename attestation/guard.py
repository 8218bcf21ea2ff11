"""What is not measured cannot be loaded: an enclave program imports only the modules of ours that are listed.

Runs inside the trust boundary. The measurement covers the files that the program's list names
(`attestation/measured.py`); this finder holds the running program to the same list. Third-party packages
are outside the tree; for them the lock and, on hardware, the manifest's trusted files stand.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from attestation.measured import TREE, modules_of
from contracts.policy import Program
from contracts.refusal import Refusal

log = logging.getLogger(__name__)


class Guard:
    """A finder that stands before Python's own and finds nothing: it ends the process, with
    `program.not_measured` in the log, where another finder would load a file of the tree that is not
    listed."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._measured = {TREE / path for path in modules_of(program)}
        packages = Path(sys.prefix).resolve()
        # a virtual environment may lie in the tree; where the tree lies in the prefix, nothing is exempt
        self._packages = packages if TREE in packages.parents else None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None, always: see the class."""
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.has_location:
            self.check(name, spec.origin)
        return None

    def check(self, name: str, origin: str | None) -> None:
        """End the process if `origin` is a file of the tree that is not listed."""
        if origin is None or not Path(origin).is_absolute():
            return  # loaded from no file: the import system's own paths are absolute
        file = Path(origin).resolve()
        third_party = self._packages is not None and file.is_relative_to(self._packages)
        if file.is_relative_to(TREE) and not third_party and file not in self._measured:
            self._end(name)

    def _end(self, name: str) -> NoReturn:
        log.critical("%s", Refusal("program.not_measured", program=self._program, module=name))
        logging.shutdown()
        os._exit(1)


def install(program: Program) -> None:
    """From now on, and for what is loaded already, only the program's listed modules are accepted.

    Raises: `measurement.missing` where there is no list.
    """
    guard = Guard(program)
    for name, module in list(sys.modules.items()):
        guard.check(name, getattr(module, "__file__", None))
    sys.meta_path.insert(0, guard)
