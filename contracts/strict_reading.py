"""Strict reading of what crosses a boundary as JSON. No enclave loads it: what enclaves read, they decode
themselves."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from contracts.refusal import Refusal

Kind = TypeVar("Kind")


def read_strictly(data: bytes | Any, kind: type[Kind], *, code: str, limit: int) -> Kind:
    """JSON bytes (at most `limit`) or decoded JSON as a value of this kind.

    Raises: `code` and the fault.
    """
    try:
        if not isinstance(data, bytes):
            return msgspec.convert(data, kind)
        if len(data) > limit:
            raise Refusal(code, fault=f"it has more than {limit} bytes")
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(code, fault=str(error)[:200]) from error
