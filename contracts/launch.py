"""What was started in a trust domain: the launcher's event log, and the register RTMR3 that it explains.

Firmware, kernel and image are in MRTD and RTMR0 to RTMR2. What then starts, `enclave/launcher.py` measures:
one event for each start of a program, a canonical JSON text on a line of its own, whose SHA-384 extends RTMR3
before the program runs. So the log needs no protection: it replays to the register of a quote, or it is
worthless. As in TCG's "Canonical Event Log Format", what is digested is the record; here the digest itself is
not told but computed.
"""

from __future__ import annotations

import hashlib
from functools import reduce
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.canonical import canonical
from contracts.policy import Hex32, Program
from contracts.refusal import Refusal

MAX_EVENTS = 16
CODE = "attest.launches_malformed"
Word = Annotated[str, Meta(min_length=1, max_length=64)]


class Launch(Struct, frozen=True, forbid_unknown_fields=True):
    """One start. `measurement` is the program's (attestation/measurement.py), `packages` the SHA-256 of its
    lock; in `argv` the interpreter and the mailbox, whose places are the image's, stand by name."""

    domain: Literal["fedslice/launch/v1"]
    program: Word
    argv: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=16)]
    measurement: Hex32
    packages: Hex32

    @property
    def digest(self) -> bytes:
        """What extends the register: SHA-384, 48 bytes."""
        return hashlib.sha384(canonical(self)).digest()


def launch(program: Program, measurement: str, packages: str) -> Launch:
    """The event of a program's start, as it is to be."""
    argv = ("python3", "-P", "-s", "-B", "-m", f"enclave.programs.{program}", "--mailbox", "MAILBOX")
    return Launch("fedslice/launch/v1", program, argv, measurement, packages)


def read_launches(event_log: str) -> tuple[Launch, ...]:
    """Read a log strictly: each line must be the canonical form of what it says.

    Raises: `attest.launches_malformed`.
    """
    *lines, rest = event_log.split("\n")
    if rest or not 0 < len(lines) <= MAX_EVENTS:
        raise Refusal(CODE, expected=f"1 to {MAX_EVENTS} whole lines", found=f"{len(lines)}")
    try:
        launches = tuple(msgspec.json.decode(line, type=Launch) for line in lines)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Refusal(CODE, expected="one launch a line", found=str(error)[:200]) from error
    if any(canonical(launch) != line.encode() for launch, line in zip(launches, lines, strict=True)):
        raise Refusal(CODE, expected="canonical JSON", found="another form")
    return launches


def extended(register: bytes, digest: bytes) -> bytes:
    """A register after one more digest: SHA-384(register ‖ digest).

    Source: Intel, "TDX Module ABI Specification", TDG.MR.RTMR.EXTEND.
    """
    return hashlib.sha384(register + digest).digest()


def rtmr3_after(*digests: bytes) -> bytes:
    """The register, zero at first, after these digests."""
    return reduce(extended, digests, bytes(48))
