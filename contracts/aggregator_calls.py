"""What a coordinator may ask of an aggregator (contracts/program_calls.py, server_calls.py)."""

from __future__ import annotations

from msgspec import Struct

from contracts.commitment import Committed, Held
from contracts.evidence import Evidence
from contracts.policy import Count, Hex32
from contracts.program_calls import Call, Challenge, Nothing, RoundNumber
from contracts.reissue import SignedReissue
from contracts.sealed.container import FileRef
from contracts.server_calls import ClosingArguments, RoundDone


class ChallengeArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The site whose client slice is to show evidence."""

    site: str


class AdmitClientArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The evidence of a site's client slice, the site key's signature over its claims (hex), and, in a run
    with a public front, the features that it has committed to."""

    site: str
    evidence: Evidence
    endorsement: str
    features: Committed | None = None


class Admitted(Struct, forbid_unknown_fields=True, frozen=True):
    """The client slice is let in; behind a public front, to what it is held."""

    held: Held | None


class InspectArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """A contribution at `in/<sha256>`."""

    round: RoundNumber
    site: str
    sha256: Hex32


class Inspected(Struct, forbid_unknown_fields=True, frozen=True):
    """It can be used, and is of so many rows."""

    site: str
    sha256: Hex32
    samples: Count


class Reissued(Struct, forbid_unknown_fields=True, frozen=True):
    """The last parameters, sealed once more, the aggregator's word for it, and to whose keys."""

    next: FileRef
    reissue: SignedReissue
    recipients: tuple[Hex32, ...]


class AggregatorStatus(Struct, forbid_unknown_fields=True, frozen=True):
    """The last round, its receipt's hash, and the admitted sites."""

    round: Count
    receipt: Hex32
    admitted: tuple[str, ...]


CHALLENGE = Call("challenge", ChallengeArguments, Challenge)
ADMIT = Call("admit", AdmitClientArguments, Admitted)
INSPECT = Call("inspect", InspectArguments, Inspected)
AGGREGATE = Call("aggregate", ClosingArguments, RoundDone)
REISSUE = Call("reissue", Nothing, Reissued)
STATUS = Call("status", Nothing, AggregatorStatus)
