"""What a connection check consists of."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Outcome = Literal["pass", "warn", "fail"]


class CheckRow(Struct, frozen=True):
    """One row: what was looked at, how it is, what was found, and what to do (empty where it is well).
    `letter` is a text for whoever looks after the hospital's network, where only they can fix it."""

    name: str
    outcome: Outcome
    found: str
    hint: str = ""
    letter: str = ""
