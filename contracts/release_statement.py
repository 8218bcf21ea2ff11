"""The release statement: which enclave programs a release of FedSlice consists of, signed by its makers.

A coordinator proposes the policy of a run, so it proposes which code is trusted. The project's release key
is the voice that it does not have: its holders sign, once a release, what each program measures. The
fingerprint of that key is typed at a hospital's enrolment and comes from anywhere but the coordinator; the
statement itself may come from anybody. docs/protocol.md specifies the format.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from contracts.fingerprint import key_fingerprint
from contracts.policy import Hex32, Hex48, Program
from contracts.refusal import Refusal
from contracts.signing import SigningKey, verify
from contracts.strict_reading import read_strictly

RELEASE_DOMAIN = "fedslice/release-statement/v1"
MAX_STATEMENT_BYTES = 64 * 1024

Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]


class TdxIdentity(Struct, frozen=True, forbid_unknown_fields=True):
    """A trust domain that runs the program and nothing else."""

    mrtd: Hex48
    rtmrs: Annotated[tuple[Hex48, ...], Meta(min_length=4, max_length=4)]


class ReleasedProgram(Struct, frozen=True, forbid_unknown_fields=True):
    """What one program measures. `development` is `attestation.measurement`; the others are null where the
    release has no such build."""

    program: Program
    product_id: Annotated[int, Meta(ge=1, le=0xFFFF)]
    svn: Annotated[int, Meta(ge=1, le=0xFFFF)]
    development: Hex32
    mrenclave: Hex32 | None = None
    mrsigner: Hex32 | None = None
    tdx: TdxIdentity | None = None


class ReleaseStatement(Struct, frozen=True, forbid_unknown_fields=True):
    """`sequence` rises with every statement of one key; `expires` is in Unix seconds. What an older statement
    named and the newest does not is not released any more."""

    version: Literal[1]
    sequence: Annotated[int, Meta(ge=1, lt=2**53)]
    expires: Annotated[int, Meta(ge=0, lt=2**53)]
    programs: Annotated[tuple[ReleasedProgram, ...], Meta(min_length=1, max_length=16)]

    def of(self, program: Program) -> ReleasedProgram | None:
        """What it says of a program, or None."""
        return next((one for one in self.programs if one.program == program), None)


class SignedReleaseStatement(Struct, frozen=True, forbid_unknown_fields=True):
    """The statement with the project's Ed25519 release key and its signature, in hex."""

    statement: ReleaseStatement
    key: Hex32
    signature: Hex64


def sign_statement(statement: ReleaseStatement, key: SigningKey) -> SignedReleaseStatement:
    """By whoever holds the release key."""
    return SignedReleaseStatement(statement, key.public, key.sign(RELEASE_DOMAIN, statement))


def parse_statement(data: bytes | Any) -> SignedReleaseStatement:
    """Read one (JSON bytes or decoded JSON) strictly, and verify its signature, not whose key it is.

    Raises: `release_statement.invalid`.
    """
    code = "release_statement.invalid"
    signed = read_strictly(data, SignedReleaseStatement, code=code, limit=MAX_STATEMENT_BYTES)
    try:
        verify(signed.key, RELEASE_DOMAIN, signed.statement, signed.signature)
    except Refusal as refusal:
        raise Refusal(code, fault="its signature is wrong") from refusal
    programs = [one.program for one in signed.statement.programs]
    if len(set(programs)) < len(programs):
        raise Refusal(code, fault="it names a program twice")
    return signed


def judge_statement(
    signed: SignedReleaseStatement, *, key: str, now: int, newest: SignedReleaseStatement | None
) -> ReleaseStatement:
    """The statement, if the relying party may go by it. `key` is the fingerprint that was pinned, `newest`
    the last statement that was accepted.

    Raises: `release_statement.other_key`, `release_statement.older` (also another one of the same sequence)
    or `release_statement.expired`.
    """
    said = signed.statement
    if key_fingerprint(signed.key) != key:
        raise Refusal("release_statement.other_key", found=key_fingerprint(signed.key), expected=key)
    if newest is not None:
        known = newest.statement
        if said.sequence < known.sequence or (said.sequence == known.sequence and said != known):
            raise Refusal("release_statement.older", found=said.sequence, seen=known.sequence)
    if said.expires <= now:
        raise Refusal("release_statement.expired", sequence=said.sequence)
    return said
