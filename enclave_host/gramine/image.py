"""From an image to MRENCLAVE: render, sign, view, for each enclave program.

    python -m enclave_host.gramine.image [PROGRAM …] --into DIR --venvs DIR --date YYYY-MM-DD [--key FILE]

Without a key it renders DIR/PROGRAM.manifest and stops: that is what two people compare, and what goes to the
machine that signs. With one it has `gramine-sgx-sign` make PROGRAM.manifest.sgx and PROGRAM.sig beside it, of
the manifest as it was rendered here and now, reads the signature back, and prints what **References** takes.
MRENCLAVE depends on the manifest, and so on every trusted file, and on Gramine's own loader, and neither on
the key nor on the date: an auditor draws a key, runs this in the same image, and `--compare` with what was
published. The date stands in SIGSTRUCT, so that is the same bytes twice only if it is given.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from attestation.measured import PROGRAMS
from attestation.measurement import PRODUCT_IDS, SVN
from contracts.policy import Program
from contracts.refusal import Refusal
from enclave_host.environments import DEFAULT, is_current
from enclave_host.gramine.launch import tool
from enclave_host.gramine.render import GRAMINE_LIB, render, values_for
from enclave_host.images import require_locked
from error_catalogue import explain

NO_DATE = "0000-00-00"


class Sigstruct(NamedTuple):
    """What a signature (SIGSTRUCT) says. Hashes are 64 hex characters."""

    mrenclave: str
    mrsigner: str
    product_id: int
    svn: int


def write_manifest(program: Program, into: Path, venvs: Path, gramine_lib: str = GRAMINE_LIB) -> Path:
    """Render the program's manifest, with the packages of its own environment below `venvs`.

    Raises: `images.unlocked`, `program.no_environment`, `gramine.*`.
    """
    require_locked()
    made = venvs.resolve() / program
    if not is_current(program, made):
        raise Refusal("program.no_environment", program=program, folder=str(made))
    file = into / f"{program}.manifest"
    into.mkdir(parents=True, exist_ok=True)
    file.write_text(render(program, values_for(program, venv=made, gramine_lib=gramine_lib)))
    return file


def sign(manifest: Path, key: Path, date: str = NO_DATE) -> Sigstruct:
    """Make PROGRAM.manifest.sgx and PROGRAM.sig beside the manifest.

    Raises: `gramine.not_installed`, `gramine.sign_failed`, and what `view` raises.
    """
    signature = manifest.with_suffix(".sig")
    _run(
        *("gramine-sgx-sign", "--quiet", "--date", date, "--key", str(key)),
        *("--manifest", str(manifest), "--output", f"{manifest}.sgx", "--sigfile", str(signature)),
    )
    return view(signature)


def view(signature: Path) -> Sigstruct:
    """What a signature says.

    Raises: `gramine.not_installed`, `gramine.sign_failed`, and `gramine.insecure` for one that is not of a
    program of ours in production.
    """
    said = json.loads(_run("gramine-sgx-sigstruct-view", "--output-format", "json", str(signature)))
    signed = Sigstruct(said["mr_enclave"], said["mr_signer"], said["isv_prod_id"], said["isv_svn"])
    if said["debug_enclave"]:
        raise Refusal("gramine.insecure", fault="it can be debugged")
    if (signed.product_id, signed.svn) != (PRODUCT_IDS.get(signature.stem), SVN):  # type: ignore[call-overload]
        raise Refusal("gramine.insecure", fault="its signature names another product or security version")
    return signed


def _run(name: str, *arguments: str) -> str:
    command = [tool(name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - not a shell
    if done.returncode != 0:
        raise Refusal("gramine.sign_failed", tool=name, fault=(done.stderr.strip() or "no word")[-300:])
    return done.stdout


def _of(program: Program, options: argparse.Namespace) -> str:
    manifest = write_manifest(program, options.into, options.venvs, options.gramine_lib)
    if options.key is None:
        return f"{manifest}  {program}"
    signed = sign(manifest, options.key, options.date)
    if options.compare is not None:
        published = view(options.compare / f"{program}.sig").mrenclave
        if published != signed.mrenclave:
            raise Refusal("gramine.other_mrenclave", program=program, here=signed.mrenclave, there=published)
    return "  ".join(map(str, (*signed, program)))


def main(arguments: list[str] | None = None) -> int:
    """Render and sign the enclave programs, and print MRENCLAVE, MRSIGNER, product id and SVN of each."""
    parser = argparse.ArgumentParser(prog="python -m enclave_host.gramine.image", description=main.__doc__)
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="only these")
    parser.add_argument("--into", type=Path, required=True, help="folder for manifests and signatures")
    parser.add_argument("--venvs", type=Path, default=DEFAULT, help="the programs' environments")
    parser.add_argument("--key", type=Path, help="RSA-3072 key, exponent 3, in PEM (default: only render)")
    parser.add_argument("--date", default=NO_DATE, help="date in the signature (default: %(default)s)")
    parser.add_argument("--compare", type=Path, help="folder of published signatures; exit 1 if one differs")
    parser.add_argument("--gramine-lib", default=GRAMINE_LIB, help="Gramine's folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.compare is not None and options.key is None:
        parser.error("to compare, give a key: any of your own, for MRENCLAVE does not depend on it")
    try:
        for program in options.programs or PROGRAMS:
            sys.stdout.write(_of(program, options) + "\n")
    except Refusal as refusal:
        said = explain(refusal.code, refusal.facts)
        sys.stderr.write(f"{said.message} {said.hint} [{said.code}]\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
