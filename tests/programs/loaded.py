"""Runs an enclave program as `python -m enclave.programs.PROGRAM` does, and writes down at its end which
files of ours it had loaded. A runner of tests: production programs have no operation that tells.

    python tests/programs/loaded.py PROGRAM --mailbox DIR      # then DIR/loaded.json
"""

import json
import os
import runpy
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
program, mailbox = sys.argv[1], Path(sys.argv[-1])
really_exit = os._exit


def end(status: int) -> None:
    files = {Path(file).resolve() for module in list(sys.modules.values()) if (file := _file_of(module))}
    names = sorted({name.partition(".")[0] for name, module in sys.modules.items() if module is not None})
    ours = sorted(str(file.relative_to(TREE)) for file in files if _is_ours(file))
    (mailbox / "loaded.json").write_text(json.dumps({"ours": ours, "names": names, "status": status}))
    really_exit(status)


def _file_of(module: object) -> str | None:
    return getattr(module, "__file__", None)


def _is_ours(file: Path) -> bool:
    return file.is_file() and file.is_relative_to(TREE) and "site-packages" not in file.parts


os._exit = end  # type: ignore[assignment]
sys.argv = sys.argv[1:]
sys.path[0] = str(TREE)  # as -m puts the folder of the start there
runpy.run_module(f"enclave.programs.{program}", run_name="__main__", alter_sys=True)
