"""What a hospital's host may ask of its client slice in the placement `masked`: see program_calls.py."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.policy import Count
from contracts.program_calls import Call, Nothing, PathText, RoundNumber


class AccelerateArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The file that the accelerator's process has made, absolute or inside the mailbox, and how many bytes of
    pads the host has room for: an enclave's own `statvfs` may be answered with invented numbers."""

    channel: PathText
    room: Count


class Accelerated(Struct, forbid_unknown_fields=True, frozen=True):
    """How the accelerator calls itself."""

    accelerator: Annotated[str, Meta(max_length=64)]


class PreparePadsArguments(Struct, forbid_unknown_fields=True, frozen=True):
    """The coming round."""

    round: RoundNumber


ACCELERATE = Call("accelerate", AccelerateArguments, Accelerated)
PREPARE = Call("prepare", PreparePadsArguments, Nothing)
