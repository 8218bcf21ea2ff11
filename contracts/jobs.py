"""What a job asks of a hospital's agent and what the agent hands in, by the job's kind.

Coordinator and agent read and write the same structs, strictly. None of it is believed: an agent verifies
what it is given, an enclave what it is handed.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from contracts.previous import Previous
from contracts.receipts import Hex64
from contracts.refusal import Refusal
from contracts.roster import Roster
from contracts.sealed.container import FileRef
from contracts.sealed.escrow import Escrow
from contracts.sealed.shards import ShardIndex

Kind = Literal["join", "features", "rewrap", "train", "evaluate", "countersign", "share"]
Lease = Annotated[int, Meta(ge=1)]
Round = Annotated[int, Meta(ge=1, lt=2**31)]
Measures = Annotated[
    dict[Annotated[str, Meta(pattern=r"^[a-z_]{1,40}\Z")], Annotated[float, Meta(ge=0, lt=2**63)]],
    Meta(max_length=40),
]
"""What a round has cost at a site, as its host tells it: numbers and nothing else."""


class Joining(Struct, frozen=True, forbid_unknown_fields=True):
    """Join the server enclave with this id, the run's `epoch`-th."""

    enclave: str
    epoch: Annotated[int, Meta(ge=1)]


class Bringing(Joining, frozen=True, forbid_unknown_fields=True):
    """Bring features, their keys, or a share to the server enclave. `escrow` is the site's own share of the
    key of the last published state, where there is one."""

    escrow: Escrow | None = None


class Contributing(Joining, frozen=True, forbid_unknown_fields=True):
    """Train or evaluate in this round; `previous` is what it continues, None where it begins."""

    round: Round
    previous: Previous | None = None


class Countersigning(Joining, frozen=True, forbid_unknown_fields=True):
    """Sign this roster."""

    roster: Roster


Inputs = Joining | Bringing | Contributing | Countersigning
INPUTS: dict[str, type[Joining]] = {
    "join": Joining,
    "features": Bringing,
    "rewrap": Bringing,
    "train": Contributing,
    "evaluate": Contributing,
    "countersign": Countersigning,
    "share": Bringing,
}
"""By the job's kind."""


class JobDone(Struct, frozen=True):
    """What every result says, whatever else its kind holds: under which lease the job was done."""

    lease: Lease


class JoinResult(JobDone, frozen=True, forbid_unknown_fields=True):
    """The site's client slice is admitted and has loaded model and dataset."""


class FeaturesResult(JobDone, frozen=True, forbid_unknown_fields=True):
    """The index of the site's shards, which were uploaded before, and the file with their keys, sealed to the
    server enclave that the site has verified."""

    index: ShardIndex
    keys: FileRef


class TrainResult(JobDone, frozen=True, forbid_unknown_fields=True):
    """The sealed update, uploaded before, and the number of rows trained on. The scores are sealed within."""

    update: FileRef
    samples: Annotated[int, Meta(ge=1, lt=2**53)]
    measures: Measures = {}


class EvaluateResult(JobDone, frozen=True, forbid_unknown_fields=True):
    """As from training, but the update holds scores only."""

    update: FileRef
    samples: Annotated[int, Meta(ge=0, lt=2**53)] = 0
    measures: Measures = {}


class CountersignResult(JobDone, frozen=True, forbid_unknown_fields=True):
    """The site key's signature over the roster (hex)."""

    countersignature: Hex64


class ShareResult(JobDone, frozen=True, forbid_unknown_fields=True):
    """The site's share of a served state's key, sealed to the enclave that the site has verified (base64)."""

    share: Annotated[str, Meta(max_length=16384)]


Result = JoinResult | FeaturesResult | TrainResult | EvaluateResult | CountersignResult | ShareResult
RESULTS: dict[str, type[Result]] = {
    "join": JoinResult,
    "features": FeaturesResult,
    "rewrap": FeaturesResult,
    "train": TrainResult,
    "evaluate": EvaluateResult,
    "countersign": CountersignResult,
    "share": ShareResult,
}
"""By the job's kind."""

T = TypeVar("T", bound=Joining)


def inputs_of(kind: str, said: bytes, wanted: type[T]) -> T:
    """At the site: what the job of this kind is given, of which the JSON is decoded here and nowhere before.

    Raises: `agent.bad_inputs`.
    """
    try:
        read = msgspec.json.decode(said, type=INPUTS.get(kind, wanted))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("agent.bad_inputs", fault=str(error)[:200]) from error
    if not isinstance(read, wanted):
        raise Refusal("agent.bad_inputs", fault=f"they are not those of a job of the kind {kind[:32]}")
    return read
