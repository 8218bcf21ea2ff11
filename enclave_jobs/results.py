"""What an agent hands in for a job, by the job's kind, read strictly."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.sealed.shards import ShardIndex
from enclave_jobs.models import JobKind

Lease = Annotated[int, Meta(ge=1)]
Hex64 = Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
MAX_RESULT_BYTES = 256 * 1024
Measures = Annotated[
    dict[Annotated[str, Meta(pattern=r"^[a-z_]{1,40}\Z")], Annotated[float, Meta(ge=0, lt=2**63)]],
    Meta(max_length=40),
]
"""What a round has cost at a site, as its host tells it: numbers and nothing else."""


class SealedFile(Struct, forbid_unknown_fields=True):
    """A sealed file in the blob store."""

    sha256: Hex32
    bytes: Annotated[int, Meta(ge=1)]


class JoinResult(Struct, forbid_unknown_fields=True):
    """The site's client slice is admitted and has loaded model and dataset."""

    lease: Lease


class FeaturesResult(Struct, forbid_unknown_fields=True):
    """The index of the site's shards, which were uploaded before, and the file with their keys, sealed to the
    server enclave that the site has verified."""

    lease: Lease
    index: ShardIndex
    keys: SealedFile


class TrainResult(Struct, forbid_unknown_fields=True):
    """The sealed update, uploaded before; the number of rows trained on; the hash of the receipt that it
    continues. The scores are sealed within."""

    lease: Lease
    update: SealedFile
    samples: Annotated[int, Meta(ge=1, lt=2**53)]
    measures: Measures = {}
    previous: Hex32 | None = None


class EvaluateResult(Struct, forbid_unknown_fields=True):
    """As for training, from the closing evaluation: the update holds scores only."""

    lease: Lease
    update: SealedFile
    samples: Annotated[int, Meta(ge=0, lt=2**53)] = 0
    measures: Measures = {}
    previous: Hex32 | None = None


class CountersignResult(Struct, forbid_unknown_fields=True):
    """The site key's signature over the roster (hex)."""

    lease: Lease
    countersignature: Hex64


class ShareResult(Struct, forbid_unknown_fields=True):
    """The site's share of a served state's key, sealed to the enclave that the site has verified (base64)."""

    lease: Lease
    share: Annotated[str, Meta(max_length=16384)]


class ResultBody(Struct, forbid_unknown_fields=True):
    """What OpenAPI says of a result: `update`, `samples`, `measures` for training and evaluation,
    `index` and `keys` for features, `countersignature` and `share` for those, and nothing more for
    joining."""

    lease: Lease
    update: SealedFile | None = None
    samples: int | None = None
    measures: Measures = {}
    previous: Hex32 | None = None
    countersignature: Hex64 | None = None
    index: ShardIndex | None = None
    keys: SealedFile | None = None
    share: str | None = None


KINDS: dict[str, type[Struct]] = {
    JobKind.JOIN: JoinResult,
    JobKind.FEATURES: FeaturesResult,
    JobKind.REWRAP: FeaturesResult,
    JobKind.TRAIN: TrainResult,
    JobKind.EVALUATE: EvaluateResult,
    JobKind.COUNTERSIGN: CountersignResult,
    JobKind.SHARE: ShareResult,
}


class _AnyResult(Struct):
    lease: Lease


def lease_of(body: bytes) -> int:
    """The lease that a result names, before its kind is known. Refuses with `job.result_invalid`."""
    if len(body) > MAX_RESULT_BYTES:
        raise Refusal("job.result_invalid", fault=f"it has more than {MAX_RESULT_BYTES} bytes")
    return _decode(body, _AnyResult).lease


def read_result(kind: str, body: bytes) -> Any:
    """The result of a job of this kind. Refuses with `job.result_invalid` and the first fault."""
    return _decode(body, KINDS[kind])


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("job.result_invalid", fault=str(error)[:300]) from error
