"""What RTMR3 must be in a trust domain that has started one of our programs, and nothing else.

    python -m attestation.trust_domain [PROGRAM] [--event] [--tree DIR]

prints `RTMR3  program`, from the sources alone: what an auditor or a hospital's agent compares a policy
with, as it does with `python -m attestation.measurement`. `--event` prints the launcher's event itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attestation.development_quoting import trust_domain as td
from attestation.measured import PROGRAMS, TREE
from attestation.measurement import measure, measured_files
from contracts.canonical import canonical
from contracts.launch import Launch, launch, rtmr3_after
from contracts.policy import Program, TdxReference
from contracts.refusal import Refusal


def launch_of(program: Program, tree: Path = TREE) -> Launch:
    """The event that `enclave/launcher.py` writes when it starts the program.

    Raises: `measurement.missing`.
    """
    packages = measured_files(program, tree)[f"enclave/measured/{program}.packages"]
    return launch(program, measure(program, tree), packages)


def rtmr3_of(program: Program, tree: Path = TREE) -> str:
    """RTMR3 in hex after one start of the program, the only one.

    Raises: `measurement.missing`.
    """
    return rtmr3_after(launch_of(program, tree).digest).hex()


def development_reference(program: Program) -> TdxReference:
    """The program in a development trust domain.

    Raises: `measurement.missing`.
    """
    registers = (td.RTMR0.hex(), td.RTMR1.hex(), td.RTMR2.hex(), rtmr3_of(program))
    return TdxReference(program=program, mrtd=td.MRTD.hex(), rtmrs=registers)


def main(arguments: list[str] | None = None) -> int:
    """Print `RTMR3  program` for each program, or one program's event."""
    parser = argparse.ArgumentParser(prog="python -m attestation.trust_domain", description=main.__doc__)
    parser.add_argument("program", nargs="?", choices=PROGRAMS, help="only this one")
    parser.add_argument("--event", action="store_true", help="print the launcher's event of PROGRAM")
    parser.add_argument("--tree", type=Path, default=TREE, help="source tree (default: this one)")
    options = parser.parse_args(arguments)
    if options.event and not options.program:
        parser.error("--event needs a program")
    try:
        if options.event:
            lines = [canonical(launch_of(options.program, options.tree)).decode()]
        else:
            programs = (options.program,) if options.program else PROGRAMS
            lines = [f"{rtmr3_of(program, options.tree)}  {program}" for program in programs]
    except Refusal as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
