"""Receipts: what an aggregator says that it did in a round, signed by its attested key and chained to the
last.

docs/protocol.md specifies them. Agents keep the hash of the last receipt that they saw and name it in the
next round's roster, so a server that was rolled back or forked is caught by the first site it meets.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec
import rfc8785
from msgspec import Meta, Struct

from contracts import signing
from contracts.canonical import canonical, digest
from contracts.manifest import Identifier, Rule
from contracts.policy import Hex32, Program
from contracts.refusal import Refusal

RECEIPT_DOMAIN = "fedslice/receipt/v1"
NO_RECEIPT = "0" * 64  # `previous` of a run's first receipt

Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
Number = int | float
Metrics = dict[str, dict[str, Number | list[Number | list[Number]]]]
"""Named groups of named numbers, rows and tables: a receipt is public and must not carry text."""


class ReceiptInput(Struct, frozen=True, forbid_unknown_fields=True):
    """One contribution: the sealed stream's SHA-256 and length in bytes, and the number of training
    samples."""

    site: Identifier
    sha256: Hex32
    bytes: Count
    samples: Count


class Averaging(Struct, frozen=True, forbid_unknown_fields=True):
    """How a round's parameters were made: of `cohort` contributions, `clipped` of them shortened to the L2
    norm `clip` (null where there is no clip, and where it is told of nobody: under noise per site, or of
    fewer sites than scores are pooled over), `capped` of them with less weight than their rows. `noise` is
    the standard deviation of what was added to each parameter."""

    rule: Rule
    cohort: Annotated[int, Meta(ge=1, le=1000)]
    clip: float | None
    clipped: Count | None
    capped: Count
    noise: float | None


class NoisySteps(Struct, frozen=True, forbid_unknown_fields=True):
    """So many noisy `steps` had a site's part up to this round, each drawing with probability `rate`. A site
    has one entry for each rate, in practice one."""

    site: Identifier
    rate: Annotated[float, Meta(gt=0, le=1)]
    steps: Annotated[int, Meta(ge=1, lt=2**53)]


class Spent(Struct, frozen=True, forbid_unknown_fields=True):
    """The noise in all parameters up to this round, per `unit`: `noise` is the noise multiplier (standard
    deviation over sensitivity), `sites` has the steps of everyone who was in one of the `rounds`. Epsilon at
    `delta` is computed from this, outside (contracts/privacy.py)."""

    unit: Literal["site", "record"]
    mechanism: Literal["gaussian", "poisson-sampled-gaussian"]
    noise: float
    delta: float
    rounds: Count
    sites: Annotated[tuple[NoisySteps, ...], Meta(max_length=2000)]


class Scoring(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose rows this run's pooled scores are of: one set of `sites` for all rounds, fixed by the first pool
    that was published and empty until then. `withheld` says why this round publishes none."""

    sites: Annotated[tuple[Identifier, ...], Meta(max_length=1000)]
    withheld: Literal["too_few_sites", "too_few_rows", "another_set", "not_pooled"] | None


class Best(Struct, frozen=True, forbid_unknown_fields=True):
    """The best round so far: the hash of the `receipt` that its parameters were made with, its number, and
    their pooled `loss` on validation rows, as it was published."""

    receipt: Hex32
    round: Annotated[int, Meta(ge=1, lt=2**31)]
    loss: float


class InstanceCount(Struct, frozen=True, forbid_unknown_fields=True):
    """How often a site's client slice has begun in this run, and the signing key of the instance to which the
    state after this round is sealed: null where none was there. `features` is the commitment that the site is
    held to (contracts/commitment.py), null where there is no public front."""

    site: Identifier
    begun: Annotated[int, Meta(ge=1, lt=2**31)]
    holder: Hex32 | None
    features: Hex32 | None = None


class Receipt(Struct, frozen=True, forbid_unknown_fields=True):
    """One round. `roster` is the hash of the countersigned roster, `output` and `state` are the SHA-256 of
    the sealed next parameters and of the sealed enclave state (null where a round made none), `previous` is
    the hash of the receipt before it. `restarts` counts how often the enclave lost its keys in this run: the
    signing key may change only where it grows. `averaging` is null where nothing was trained, `privacy` in a
    run without noise. `metrics.pooled` is there only where `scoring` withholds nothing. `best` is null until
    a round's parameters were scored; from the closing round on, `output` and `state` are the parameters of
    `best`, or where it is null the last ones."""

    version: Literal[1]
    manifest: Hex32
    run: Identifier
    round: Annotated[int, Meta(ge=1, lt=2**31)]
    roster: Hex32
    inputs: Annotated[tuple[ReceiptInput, ...], Meta(max_length=1000)]
    output: Hex32 | None
    state: Hex32 | None
    metrics: Metrics
    previous: Hex32
    program: Program
    measurement: Annotated[str, Meta(pattern=r"^([0-9a-f]{64}|[0-9a-f]{96})\Z")] | None
    development: bool
    issued: Count
    restarts: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    averaging: Averaging | None = None
    privacy: Spent | None = None
    scoring: Scoring | None = None
    instances: Annotated[tuple[InstanceCount, ...], Meta(max_length=1000)] = ()
    best: Best | None = None


class SignedReceipt(Struct, frozen=True, forbid_unknown_fields=True):
    """A receipt with the attested Ed25519 key that signed it, and the signature, in hex."""

    receipt: Receipt
    signing_key: Hex32
    signature: Hex64


def receipt_hash(receipt: Receipt) -> str:
    """SHA-256 of the canonical receipt, in hex: what the next one, rosters and agents name."""
    return digest(receipt)


def verify_receipt(signed: SignedReceipt) -> str:
    """Check one receipt's form and signature, not whose key it is; returns its hash.

    Raises: `receipt.invalid` or `sealing.bad_signature`.
    """
    _, data = checked(signed.receipt)
    signing.verify(signed.signing_key, RECEIPT_DOMAIN, data, signed.signature)
    return hashlib.sha256(data).hexdigest()


def checked(receipt: Receipt) -> tuple[Receipt, bytes]:
    """The receipt after one pass through its canonical form (typed, finite, in order), and that form.

    Raises: `receipt.invalid`.
    """
    try:
        data = canonical(receipt)
        parsed = msgspec.json.decode(data, type=Receipt)
    except (msgspec.MsgspecError, rfc8785.CanonicalizationError, RecursionError) as error:
        raise Refusal("receipt.invalid", fault=str(error)[:200]) from error
    sites = [entry.site for entry in parsed.inputs]
    if sites != sorted(set(sites)):
        raise Refusal("receipt.invalid", fault="its inputs are not in the order of their site ids")
    return parsed, data
