"""The auditor's page, docs/trusted-computing-base.md, written from the lists, the sources and the locks.

    python -m enclave_host.tcb_page [--write]

Without `--write` this fails if the page is stale.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from functools import cache
from pathlib import Path

from attestation.measured import PROGRAMS, TREE
from attestation.measurement import PRODUCT_IDS
from contracts.policy import Program
from enclave_host.closure import lines_of_code, reading_order
from enclave_host.lock import lock_of, read_lock

PAGE = "docs/trusted-computing-base.md"

PASSES = "kernels/passes.c"
LAUNCHER = "enclave/launcher.py"
IN_A_TRUST_DOMAIN = """## In a trust domain

Under TDX the image is trusted too: firmware, kernel, Python and the file that measures the program before it
runs. It imports nothing of ours and nothing but the standard library. `python -m attestation.trust_domain
PROGRAM` prints the RTMR3 that it leads to; `--event` prints what it measures.
"""

HEAD = """# The trusted computing base

Written by `make closure` from the sources; do not edit. What a hospital trusts when it accepts a
measurement of one of the enclave programs: the files below, the packages below, the Python interpreter
and the C library, Gramine where it runs under Gramine, and the processor. Nothing else of this
repository can be loaded by the program, and changes elsewhere do not move its measurement. Lines are
counted without blanks, comments and docstrings; every module counts that a program *can* import, also
those that only some runs load: `client_slice` loads `enclave/masking/` only for the placement `masked`, a
server what lets parameters out or serves only where the manifest's rule says so, and no program on hardware
loads what plays a processor in development (`attestation/development_quoting/`,
`attestation/sources/development.py`, `attestation/measurement.py`). What a run really loads is counted in
tests/programs/test_loaded.py.
Files are in reading order: each after what it imports.

## Recompute a measurement

1. `python -m enclave_host.closure` reads the imports again and fails if a list in `enclave/measured/` is
   not complete. By hand: begin at `enclave/programs/PROGRAM.py`, follow every import of `contracts`,
   `attestation` and `enclave`, also inside functions, except under `if TYPE_CHECKING`.
2. `python -m attestation.measurement PROGRAM --files` prints every measured file with its SHA-256, as
   `sha256sum` would: the listed modules, the list, the Gramine template and the package lock.
3. The development measurement is the SHA-256 of the RFC 8785 JSON of `{"domain":
   "fedslice/measurement/v1", "files": {path: sha256}, "program": PROGRAM}`; `python -m
   attestation.measurement` prints it for all programs.
4. For SGX: `make enclave-envs`, render (`python -m enclave_host.gramine.render PROGRAM --venv
   var/enclave-envs/PROGRAM`) at the same paths as the host (one container image), sign, and compare
   `gramine-sgx-sigstruct-view` with the reference value.

The locks name wheels for CPython 3.11 on Linux x86-64; `python -m pip install --require-hashes -r
enclave/measured/PROGRAM.packages` installs these bytes or nothing. Hashes are cut here and whole in the
lock.
"""


def page(tree: Path = TREE) -> str:
    """The page as it should be."""
    return HEAD + _launcher(tree) + "".join(_of(program, tree) for program in PROGRAMS)


def _launcher(tree: Path) -> str:
    source = (tree / LAUNCHER).read_text()
    row = f"| [{LAUNCHER}](../{LAUNCHER}) | {lines_of_code(source)} | {_title(source)} |"
    return f"\n{IN_A_TRUST_DOMAIN}\n| file | lines | what it is |\n|---|---:|---|\n{row}\n"


def _of(program: Program, tree: Path) -> str:
    sources = {path: (tree / path).read_text() for path in reading_order(program, tree)}
    lines = {path: lines_of_code(source) for path, source in sources.items()}
    files = [f"| [{path}](../{path}) | {lines[path]} | {_title(sources[path])} |" for path in sources]
    total = f"| together | {sum(lines.values())} | |"
    packages, pin = read_lock(program, tree), tree / "enclave/slicing/placement.py"
    locked = [f"| {name} | {version} | `{sha[:16]}…` |" for name, version, sha in packages]
    parts = [
        f"\n## {program}\n",
        f"Product id {PRODUCT_IDS[program]}; {len(files)} files, {len(packages)} packages.\n",
        "\n".join(["| file | lines | what it is |", "|---|---:|---|", *files, total]) + "\n",
        *([_in_c(tree, pin.read_text())] if "enclave/masking/native.py" in sources else []),
        f"Packages, from [{program}.packages](../{lock_of(program)}):\n",
        "\n".join(["| package | version | SHA-256 of the wheel |", "|---|---|---|", *locked]) + "\n",
    ]
    return "\n".join(parts)


def _in_c(tree: Path, pin: str) -> str:
    """What of ours is no Python."""
    (named,) = re.findall(r"^PASSES: str \| None = (.+)$", pin, re.MULTILINE)
    lines = len((tree / PASSES).read_text().splitlines())
    which = "none: this release computes in numpy and torch" if named == "None" else f"`{named}`"
    return (
        "In C, loaded where the manifest asks for it, and only as the library whose SHA-256 `PASSES` in "
        "[enclave/slicing/placement.py](../enclave/slicing/placement.py) names,\nwhich is measured "
        f"({which}):\n\n"
        "| file | lines, all | what it is |\n|---|---:|---|\n"
        f"| [{PASSES}](../{PASSES}) | {lines} | The enclave's passes around a product |\n"
    )


@cache
def _title(source: str) -> str:
    """The first sentence of a module's text."""
    text = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
    return " ".join(text.split()).partition(". ")[0].rstrip(".").replace("|", "\\|")


def _without_counts(text: str) -> str:
    """Counts may be of an earlier commit: a page that is stale after each edited line would teach nothing."""
    return re.sub(r"\| \d+ \|", "| |", text)


def main(arguments: list[str] | None = None) -> int:
    """Check the auditor's page, or write it."""
    parser = argparse.ArgumentParser(prog="python -m enclave_host.tcb_page", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write the page again")
    parser.add_argument("--tree", type=Path, default=TREE, help="source tree (default: this one)")
    options = parser.parse_args(arguments)
    text, file = page(options.tree), options.tree / PAGE
    if options.write:
        file.write_text(text)
    elif not file.is_file() or _without_counts(file.read_text()) != _without_counts(text):
        sys.stderr.write(f"stale: {PAGE}; run `make closure`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
