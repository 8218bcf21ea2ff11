"""An environment for each enclave program: its locked packages and nothing else, not even pip.

    python -m enclave_host.environments [PROGRAM] [--into DIR] [--torch-index URL]

Makes DIR/<program> (default var/enclave-envs) from `enclave/measured/<program>.packages`, each wheel checked
against its hash; what is up to date stays. A program that may load the passes in C also gets the wheel of
kernels/wheel.lock, where var/kernels holds that one (`make setup` builds it with the right compiler). Hosts
start programs from there where FEDSLICE_ENCLAVE_ENVS names DIR (`enclave_host/gramine/launch.py`); without it
a program runs in the host's own environment.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from attestation.measured import PROGRAMS, TREE, modules_of
from contracts.policy import Program
from contracts.refusal import Refusal
from enclave_host.lock import lock_of

SETTING = "FEDSLICE_ENCLAVE_ENVS"
DEFAULT = TREE / "var" / "enclave-envs"
STAMP = "made-from"
KERNELS, KERNELS_LOCK, NEEDS_KERNELS = "var/kernels", "kernels/wheel.lock", "enclave/masking/native.py"


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


def add_kernels(program: Program, made: Path, folder: Path) -> bool:
    """Put the locked wheel of kernels into the environment; False where the folder does not hold it. Raises
    CalledProcessError as `make`."""
    lock, wheels = TREE / KERNELS_LOCK, [*folder.glob("fedslice_kernels-*.whl")]
    text = lock.read_text() if lock.is_file() else ""
    held = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]
    if NEEDS_KERNELS not in modules_of(program) or not any(f"--hash=sha256:{one}" in text for one in held):
        return False
    subprocess.run(  # noqa: S603 - the command is ours, without a shell
        [
            *(sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"), "install", "--quiet"),
            *("--no-compile", "--no-deps", "--no-index", "--disable-pip-version-check"),
            *("--find-links", str(folder), "--require-hashes", "--requirement", str(lock)),
        ],
        check=True,
    )
    return True


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
        try:
            if not is_current(program, made):
                sys.stdout.write(f"Making {made}\n")
                make(program, made, options.torch_index)
            add_kernels(program, made, TREE / KERNELS)
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"{made}: not made; {lock_of(program)} could not be installed\n")
            return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
