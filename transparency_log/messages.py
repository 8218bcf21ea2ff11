"""The messages of a process outside of the enclaves (coordinator, supervisor, site agent), resolved before it
has threads (contracts/settling.py says why)."""

from __future__ import annotations

from importlib import import_module

from contracts.settling import settle_types

MESSAGES = (
    "contracts.manifest",
    "contracts.evidence",
    "transparency_log.bundle",
    "transparency_log.statements",
    "contracts.sealed.handback",
    "contracts.releases",
    "contracts.roster",
    "contracts.sealed.session",
    "contracts.sealed.shards",
    "contracts.sealed.state",
)
"""Modules whose types any thread may decode at any time; what they import comes with them. None brings
torch."""


def settle_messages() -> None:
    """Import these modules, and resolve their types and all others that are imported by now."""
    for name in MESSAGES:
        import_module(name)
    settle_types()
