"""How a coordinator asks a server program for tuned parameters (contracts/program_calls.py)."""

from __future__ import annotations

from msgspec import Struct

from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.program_calls import Call, PathText
from contracts.releases import ReleaseApproval, SignedRelease
from contracts.sealed.container import FileRef


class ReleaseArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The receipt whose parameters are to leave, the sites' approvals, and the base model's folder
    (absolute or inside the mailbox)."""

    receipt: Hex32
    release_approvals: dict[Identifier, ReleaseApproval]
    model: PathText


class LetOut(Struct, forbid_unknown_fields=True, frozen=True):
    """The file, and the signed statement about it."""

    output: FileRef
    release: SignedRelease


RELEASE = Call("release", ReleaseArguments, LetOut)
