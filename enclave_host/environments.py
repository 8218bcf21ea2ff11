"""An environment for each enclave program: its locked packages and nothing else, not even pip.

    python -m enclave_host.environments [PROGRAM] [--into DIR] [--torch-index URL]

Makes DIR/<program> (default var/enclave-envs) from `enclave/measured/<program>.packages`, each wheel checked
against its hash; what is up to date stays. Hosts start programs from there where FEDSLICE_ENCLAVE_ENVS names
DIR (`enclave_host/gramine/launch.py`); without it a program runs in the host's own environment.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from attestation.measured import PROGRAMS, TREE
from contracts.policy import Program
from contracts.refusal import Refusal
from enclave_host.lock import lock_of

SETTING = "FEDSLICE_ENCLAVE_ENVS"
DEFAULT = TREE / "var" / "enclave-envs"
STAMP = "made-from"


def environment_of(program: Program) -> Path | None:
    """The folder of the environment that the setting asks for; None where it is not set.

    Raises: `program.no_environment` if it is missing or was made from another lock.
    """
    folder = os.environ.get(SETTING)
    if not folder:
        return None
    made = Path(folder).resolve() / program
    if not is_current(program, made):
        raise Refusal("program.no_environment", program=program, folder=str(made))
    return made


def is_current(program: Program, made: Path) -> bool:
    """Whether the environment is there, whole, and made from the lock as it is now."""
    try:
        return (made / STAMP).read_text() == stamp_of(program)
    except OSError:
        return False


def make(program: Program, made: Path, torch_index: str = "") -> None:
    """Make the environment again. Raises CalledProcessError where pip finds no wheel with a locked hash."""
    venv.create(made, clear=True, symlinks=True)
    index = ["--extra-index-url", torch_index] if torch_index else []
    # Not compiled: compiled files hold times, and on hardware the folder's bytes are measured.
    subprocess.run(  # noqa: S603 - the command is ours, without a shell
        [
            *(sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"), "install", "--quiet"),
            *("--no-compile", "--only-binary", ":all:", "--disable-pip-version-check", *index),
            *("--require-hashes", "--requirement", str(TREE / lock_of(program))),
        ],
        check=True,
    )
    (made / STAMP).write_text(stamp_of(program))


def stamp_of(program: Program) -> str:
    """What a finished environment was made from."""
    return hashlib.sha256((TREE / lock_of(program)).read_bytes()).hexdigest() + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Make the environments of the enclave programs from their locks."""
    parser = argparse.ArgumentParser(prog="python -m enclave_host.environments", description=main.__doc__)
    parser.add_argument("program", nargs="?", choices=PROGRAMS, help="only this one")
    parser.add_argument("--into", type=Path, default=DEFAULT, help="folder (default: %(default)s)")
    parser.add_argument("--torch-index", default="", help="where torch's CPU wheel is, if pip does not know")
    options = parser.parse_args(arguments)
    for program in (options.program,) if options.program else PROGRAMS:
        made = options.into.resolve() / program
        if is_current(program, made):
            continue
        sys.stdout.write(f"Making {made}\n")
        try:
            make(program, made, options.torch_index)
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"{made}: not made; {lock_of(program)} could not be installed\n")
            return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
