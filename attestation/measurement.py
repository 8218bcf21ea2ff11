"""The development MRENCLAVE: a reproducible hash of what a program is, and of nothing else.

It covers the program's own closure: the modules of ours that it can import (listed in
`enclave/measured/PROGRAM.modules`), that list, its Gramine template and its locked packages
(`PROGRAM.packages`), by path and content. Times, caches, file modes, the folder of the checkout and every
file that the program cannot load do not enter. An auditor recomputes it from a source tree with
`python -m attestation.measurement PROGRAM`, or by hand:

    sha256( RFC 8785 JSON of {"domain": DOMAIN, "files": {path: sha256 of content}, "program": PROGRAM} )

where paths are relative to the tree, with forward slashes (`--files` prints them as `sha256sum` would). That
the list is complete is shown outside (`python -m enclave_host.closure`) and enforced inside
(`attestation/guard.py`). On hardware the processor measures instead, and `gramine-sgx-sigstruct-view` shows
what to expect.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from attestation.development_quoting.constants import sentence_hash
from attestation.measured import MEASURED, PROGRAMS, TREE, modules_of, read_measured
from contracts.canonical import digest
from contracts.policy import Program
from contracts.refusal import Refusal

DOMAIN = "fedslice/measurement/v1"

# The same product ids and SVN stand in the Gramine templates; the SVN rises with each security fix.
DEVELOPMENT_MRSIGNER = sentence_hash("signer of the enclave programs").hex()
PRODUCT_IDS: dict[Program, int] = {"aggregator": 1, "client_slice": 2, "split_server": 3}
SVN = 1


def measure(program: Program, tree: Path = TREE) -> str:
    """The program's development MRENCLAVE, 64 hex characters.

    Raises: `measurement.missing`.
    """
    return digest({"domain": DOMAIN, "program": program, "files": measured_files(program, tree)})


def measured_files(program: Program, tree: Path = TREE) -> dict[str, str]:
    """What `measure` covers: path relative to `tree` -> SHA-256 of the content.

    Raises: `measurement.missing` if one of the files is not there.
    """
    beside = [f"{MEASURED}/{program}.{kind}" for kind in ("modules", "manifest.template", "packages")]
    names = sorted({*modules_of(program, tree), *beside})
    return {name: hashlib.sha256(read_measured(name, tree)).hexdigest() for name in names}


def main(arguments: list[str] | None = None) -> int:
    """Print `MRENCLAVE  program` for each program, or the measured files of one."""
    parser = argparse.ArgumentParser(prog="python -m attestation.measurement", description=main.__doc__)
    parser.add_argument("program", nargs="?", choices=PROGRAMS, help="only this one")
    parser.add_argument("--files", action="store_true", help="print the files of PROGRAM with their SHA-256")
    parser.add_argument("--tree", type=Path, default=TREE, help="source tree (default: this one)")
    options = parser.parse_args(arguments)
    if options.files and not options.program:
        parser.error("--files needs a program")
    try:
        if options.files:
            lines = [f"{sha}  {name}" for name, sha in measured_files(options.program, options.tree).items()]
        else:
            programs = (options.program,) if options.program else PROGRAMS
            lines = [f"{measure(program, options.tree)}  {program}" for program in programs]
    except Refusal as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
