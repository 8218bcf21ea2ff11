"""What a hospital's host may ask of its client slice (contracts/program_calls.py)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.evidence import Evidence
from contracts.log.proof import Logged
from contracts.policy import Count, Hex32
from contracts.previous import Previous
from contracts.program_calls import Call, Challenge, Nothing, PathText, RoundNumber
from contracts.sealed.container import FileRef

Measures = Annotated[dict[Annotated[str, Meta(max_length=40)], int | float], Meta(max_length=40)]


class InLog(Struct, forbid_unknown_fields=True, frozen=True):
    """Proofs of the entries of the run's manifest, and of the aggregator's appraisal."""

    manifest: Logged
    appraisal: Logged


class AdmitAggregatorArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The aggregator's evidence, and the proofs that it and the manifest stand in the log."""

    evidence: Evidence
    logged: InLog


class LoadArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The base model's folder and the normalised rows, absolute or inside the mailbox, whose rows they are,
    and the key of that site's dataset digests (hex). Behind a public front, also the rows' features."""

    model: PathText
    dataset: PathText
    site: str
    key: Hex32
    features: PathText | None = None


class Loaded(Struct, forbid_unknown_fields=True, frozen=True):
    """How many rows each part has, and how many were `cut` at the manifest's tokens or `left_out`."""

    site: str
    training_rows: Count
    validation_rows: Count
    test_rows: Count
    cut: Count
    left_out: Count


class RoundArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """A round, and what it continues (null: the initial parameters)."""

    round: RoundNumber
    previous: Previous | None


class Contributed(Struct, forbid_unknown_fields=True, frozen=True):
    """The sealed file, and what the site's host knows anyway. No score: the host would have an oracle."""

    update: FileRef
    samples: Count
    previous: Hex32
    measures: Measures


CHALLENGE = Call("challenge", Nothing, Challenge)
ADMIT = Call("admit", AdmitAggregatorArguments, Nothing)
LOAD = Call("load", LoadArguments, Loaded)
TRAIN = Call("train", RoundArguments, Contributed)
EVALUATE = Call("evaluate", RoundArguments, Contributed)
