"""Make a release statement: measure the programs of a source tree, and sign what they are.

    python -m attestation.release_statement --new-key FILE
    python -m attestation.release_statement --key FILE --sequence 7 --expires 2027-12-31 > statement.json

The key's file holds an Ed25519 seed in hex. It belongs to FedSlice's makers and stays outside of every
repository; the statement is published as release/statement.json. `--built FILE` adds what reproducible builds
for hardware measure: JSON, program -> {mrenclave, mrsigner, tdx}.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from attestation.measured import PROGRAMS
from attestation.measurement import PRODUCT_IDS, SVN, measure
from contracts.canonical import canonical
from contracts.fingerprint import key_fingerprint
from contracts.kept_keys import signing_key, signing_secret
from contracts.policy import Program
from contracts.refusal import Refusal
from contracts.release_statement import ReleasedProgram, ReleaseStatement, parse_statement, sign_statement
from contracts.signing import SigningKey


def make_statement(
    sequence: int, expires: int, built: dict[Program, dict[str, Any]] | None = None
) -> ReleaseStatement:
    """What this source tree is. `built` names what hardware builds measure, by program.

    Raises: `measurement.missing` or `release_statement.invalid`.
    """
    programs = [
        {"program": program, "product_id": PRODUCT_IDS[program], "svn": SVN, "development": measure(program)}
        | (built or {}).get(program, {})
        for program in PROGRAMS
    ]
    try:
        return ReleaseStatement(1, sequence, expires, msgspec.convert(programs, tuple[ReleasedProgram, ...]))
    except msgspec.ValidationError as error:
        raise Refusal("release_statement.invalid", fault=str(error)) from error


def main(arguments: list[str] | None = None) -> int:
    """Make a key, or a signed statement on standard output."""
    parser = argparse.ArgumentParser(prog="python -m attestation.release_statement", description=main.__doc__)
    parser.add_argument(
        "--new-key", type=Path, metavar="FILE", help="make a release key, readable by you only"
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help="the release key")
    parser.add_argument("--sequence", type=int, help="one more than the last statement's")
    parser.add_argument("--expires", type=datetime.fromisoformat, metavar="DATE", help="UTC")
    parser.add_argument("--built", type=Path, metavar="FILE", help="measurements of hardware builds (JSON)")
    options = parser.parse_args(arguments)
    if options.new_key:
        key = SigningKey.generate()
        descriptor = os.open(options.new_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(signing_secret(key).hex() + "\n")
        sys.stdout.write(f"Fingerprint of the release key: {key_fingerprint(key.public)}\n")
        return 0
    if options.key is None or options.sequence is None or options.expires is None:
        parser.error("--key, --sequence and --expires go together")
    try:
        key = signing_key(bytes.fromhex(options.key.read_text().strip()))
        built = None if options.built is None else msgspec.json.decode(options.built.read_bytes())
        expires = int(options.expires.replace(tzinfo=UTC).timestamp())
        signed = sign_statement(make_statement(options.sequence, expires, built), key)
        parse_statement(canonical(signed))
    except Refusal as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    sys.stdout.write(canonical(signed).decode() + "\n")
    sys.stderr.write(f"Signed by {key_fingerprint(key.public)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
