"""The time zones that a person can choose."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones


@cache
def zones() -> tuple[str, ...]:
    """Names of the IANA database that name a place, and UTC. Read once: it lies in hundreds of files."""
    return tuple(sorted(zone for zone in available_timezones() if "/" in zone or zone == "UTC"))
