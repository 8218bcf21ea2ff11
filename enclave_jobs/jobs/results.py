"""What an agent hands in for a job (contracts/jobs.py), read strictly."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from contracts.jobs import RESULTS, JobDone, Lease, Measures, Result
from contracts.receipts import Hex64
from contracts.refusal import Refusal
from contracts.sealed.container import FileRef
from contracts.sealed.shards import ShardIndex

MAX_RESULT_BYTES = 256 * 1024
T = TypeVar("T", bound=JobDone)


class ResultBody(Struct, forbid_unknown_fields=True):
    """What OpenAPI says of a result: `update`, `samples`, `measures` for training and evaluation,
    `index` and `keys` for features, `countersignature` and `share` for those, and nothing more for
    joining."""

    lease: Lease
    update: FileRef | None = None
    samples: int | None = None
    measures: Measures = {}
    countersignature: Hex64 | None = None
    index: ShardIndex | None = None
    keys: FileRef | None = None
    share: str | None = None


def lease_of(body: bytes) -> int:
    """The lease that a result names, before its kind is known.

    Raises: `job.result_invalid`.
    """
    if len(body) > MAX_RESULT_BYTES:
        raise Refusal("job.result_invalid", fault=f"it has more than {MAX_RESULT_BYTES} bytes")
    return _decode(body, JobDone).lease


def read_result(kind: str, body: bytes) -> Result:
    """The result of a job of this kind.

    Raises: `job.result_invalid` and the first fault.
    """
    return _decode(body, RESULTS[kind])


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal("job.result_invalid", fault=str(error)[:300]) from error
