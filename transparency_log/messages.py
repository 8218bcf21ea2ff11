"""The messages of a process outside of the enclaves (coordinator, supervisor, site agent), resolved before it
has threads (contracts/decoder_warm_up.py says why)."""

from __future__ import annotations

from importlib import import_module

from contracts.decoder_warm_up import warm_up_decoders

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


def warm_up_message_decoders() -> None:
    """Import these modules, and resolve their types and all others that are imported by now."""
    for name in MESSAGES:
        import_module(name)
    warm_up_decoders()
