"""Message types, resolved before there are threads.

msgspec resolves a Struct's fields when it first decodes one. Two threads that do so at once for the same type
crash the interpreter (seen with msgspec 0.22: a segmentation fault while both evaluated the annotations). So
every process with threads settles its types first, at its start. Modules that bring torch come later; they
make their decoders as they are imported, which one thread does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module

import msgspec
from msgspec import Struct

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
"""Modules whose types may cross a boundary in any process; what they import comes with them. None brings
torch."""


def settle_types() -> None:
    """Resolve the types of these modules and all others that are imported by now."""
    for name in MESSAGES:
        import_module(name)
    for kind in _kinds(Struct):
        with suppress(TypeError, NameError):  # never decoded: it holds what no message can
            msgspec.json.Decoder(kind)


def _kinds(base: type[Struct]) -> Iterator[type[Struct]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)
