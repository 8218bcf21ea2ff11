"""How a row is written: by the hospital's agent alone, so that no enclave loads it (contracts/rows.py)."""

from __future__ import annotations

import msgspec

from contracts.rows import Row


def write_row(row: Row) -> bytes:
    """The line of a row, names in their order, with its end. The same row gives the same bytes."""
    return msgspec.json.encode(row, order="sorted") + b"\n"
