"""What a coordinator may ask of a split server (contracts/program_calls.py, server_calls.py)."""

from __future__ import annotations

from msgspec import Struct

from contracts.policy import Count, Hex32
from contracts.program_calls import Call, Nothing, PathText
from contracts.receipts import ReceiptInput
from contracts.server_calls import ClosingArguments, RoundDone


class PrepareTailArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The base model's folder, absolute or inside the mailbox."""

    model: PathText


class TailSize(Struct, forbid_unknown_fields=True, frozen=True):
    """How many parameters are tuned, and the bytes that their AdamW holds."""

    parameters: Count
    optimizer_bytes: Count


class FeaturesArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """A site's sealed keys at `in/<keys>`; the shards of its index lie beside them."""

    site: str
    keys: Hex32


class TailStatus(Struct, forbid_unknown_fields=True, frozen=True):
    """The last round, its receipt's hash, whose features are here (site -> hash of the index), and whether
    enough sites have `named` this past."""

    round: Count
    receipt: Hex32
    features: dict[str, Hex32]
    named: bool


PREPARE = Call("prepare", PrepareTailArguments, TailSize)
FEATURES = Call("features", FeaturesArguments, ReceiptInput)
TRAIN = Call("train", ClosingArguments, RoundDone)
EVALUATE = Call("evaluate", ClosingArguments, RoundDone)
STATUS = Call("status", Nothing, TailStatus)
