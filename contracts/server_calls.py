"""What a host may ask of both server programs, and what a round of theirs leaves: see program_calls.py."""

from __future__ import annotations

from msgspec import Struct

from contracts.policy import Count, Hex32
from contracts.program_calls import Call, RoundNumber
from contracts.receipts import Metrics, SignedReceipt
from contracts.roster import Roster
from contracts.sealed.container import FileRef


class ClosingArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The roster, whose entries name what lies in the mailbox, and the listed sites' signatures on it
    (hex)."""

    round: RoundNumber
    roster: Roster
    countersignatures: dict[str, str]


class RoundDone(Struct, forbid_unknown_fields=True, frozen=True):
    """The sealed next parameters and the sealed state (null where a round makes none), the numbers for the
    run's page, and the receipt, which has most of them."""

    next: FileRef | None
    state: FileRef | None
    metrics: Metrics
    receipt: SignedReceipt


class RestoreArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """Sealed state at `in/<sha256>`."""

    state: Hex32


class Restored(Struct, forbid_unknown_fields=True, frozen=True):
    """The last round, and the hash of its receipt."""

    round: Count
    receipt: Hex32


RESTORE = Call("restore", RestoreArguments, Restored)
