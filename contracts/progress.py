"""How far an enclave is with what it was asked for, as it tells its host."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, lt=2**53)]


class Progress(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`done` of `of` rows or files, or of the tokens that pads are for. Of pads also for how many batches
    they are, and their bytes; there `rows_per_second` are tokens in a second of one core."""

    stage: Annotated[str, Meta(min_length=1, max_length=40)]
    done: Count = 0
    of: Count = 0
    rows_per_second: Annotated[float, Meta(ge=0)] | None = None
    bytes: Count = 0
    batches: Count = 0
    of_batches: Count = 0
