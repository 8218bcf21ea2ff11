"""The packages of an enclave program, locked to the bytes of the very wheels.

    python -m enclave_host.lock [PROGRAM] [--write]

A program's packages are what its closure imports (`enclave_host.closure`), at the versions that
requirements-site.txt pins, and what those packages declare to need, at the versions of the environment that
runs this: the one in which the tests pass. pip resolves them (`pip install --dry-run --report`), and
`enclave/measured/<program>.packages` names one wheel for each, by version and SHA-256:

    python -m pip install --require-hashes -r enclave/measured/<program>.packages

then installs these bytes or nothing. They are wheels for CPython 3.11 on Linux x86-64, the platform of the
enclaves; torch is its CPU build. Without `--write` this checks, without a network, that the locks hold what
the sources import.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distributions, packages_distributions
from pathlib import Path
from typing import NamedTuple

from attestation.measured import MEASURED, PROGRAMS, TREE
from contracts.policy import Program
from enclave_host.closure import outside

PINS = "requirements-site.txt"


class Package(NamedTuple):
    """One wheel. `sha256` is in hex."""

    name: str
    version: str
    sha256: str


def lock_of(program: Program) -> str:
    """The path of the program's lock, relative to the tree."""
    return f"{MEASURED}/{program}.packages"


def read_lock(program: Program, tree: Path = TREE) -> list[Package]:
    """The packages of a lock."""
    text = (tree / lock_of(program)).read_text()
    found = re.findall(r"^([\w.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$", text, re.MULTILINE)
    return [Package(*groups) for groups in found]


def needed(program: Program, tree: Path = TREE) -> dict[str, str]:
    """What the closure imports: name of the package -> version that requirements-site.txt pins. Raises
    ValueError for an import that no pinned package brings."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (tree / PINS).read_text(), re.MULTILINE))
    found = {}
    for module in outside(program, tree):
        names = {_plain(name) for name in _brought().get(module, ())} & {_plain(name) for name in pins}
        if len(names) != 1:
            raise ValueError(f"{program} imports {module}: pin its package in {PINS} and install it")
        found[names.pop()] = ""
    return {_plain(name): version for name, version in sorted(pins.items()) if _plain(name) in found}


def stale(program: Program, tree: Path = TREE) -> str:
    """Why the lock does not fit the sources; empty if it does."""
    if not (tree / lock_of(program)).is_file():
        return "it is missing"
    locked = {package.name: package.version.partition("+")[0] for package in read_lock(program, tree)}
    text = (tree / lock_of(program)).read_text()
    for name, version in needed(program, tree).items():
        if locked.get(name) != version:
            return f"{name} is to be {version} and is {locked.get(name, 'not there')}"
    if _imports(program, tree) not in text.splitlines():
        return "it was made for other imports"
    return ""


def write(program: Program, tree: Path = TREE) -> None:
    """Resolve and write the lock; asks pip's index."""
    lines = [
        f"# Packages of the enclave program {program}; written by `make lock`, part of its measurement.",
        _imports(program, tree),
        *(f"{name}=={version} --hash=sha256:{sha}" for name, version, sha in resolve(needed(program, tree))),
    ]
    (tree / lock_of(program)).write_text("\n".join(lines) + "\n")


def resolve(wanted: dict[str, str]) -> list[Package]:
    """The wheels that pip would install into an empty environment, by name."""
    with tempfile.TemporaryDirectory() as folder:
        here, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        own = {_plain(item.metadata["Name"]): item.version for item in distributions()}
        here.write_text("".join(f"{name}=={version}\n" for name, version in own.items()))
        subprocess.run(  # noqa: S603 - the command is ours, without a shell
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
                *("--only-binary", ":all:", "--constraint", str(here), "--report", str(report)),
                *(f"{name}=={version}" for name, version in wanted.items()),
            ],
            check=True,
        )
        installs = json.loads(report.read_text())["install"]
    return sorted(
        Package(
            _plain(item["metadata"]["name"]),
            item["metadata"]["version"],
            item["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for item in installs
    )


@cache
def _brought() -> Mapping[str, list[str]]:
    """Which packages bring a top-level name here; asks every installed one."""
    return packages_distributions()


def _imports(program: Program, tree: Path) -> str:
    return f"# Imported by its modules: {', '.join(needed(program, tree))}. The others are needed by these."


def _plain(name: str) -> str:
    """PEP 503: one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(arguments: list[str] | None = None) -> int:
    """Check the package locks of the enclave programs, or resolve them again."""
    parser = argparse.ArgumentParser(prog="python -m enclave_host.lock", description=main.__doc__)
    parser.add_argument("program", nargs="?", choices=PROGRAMS, help="only this one")
    parser.add_argument("--write", action="store_true", help="resolve and write")
    options = parser.parse_args(arguments)
    faults = []
    for program in (options.program,) if options.program else PROGRAMS:
        if options.write:
            write(program)
        elif fault := stale(program):
            faults.append(f"{lock_of(program)}: {fault}; run `make lock` and review what changed\n")
    sys.stderr.write("".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
