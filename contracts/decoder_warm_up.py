"""Message types, resolved before there are threads.

msgspec resolves a Struct's fields when it first decodes one. Two threads that do so at once for the same
type crash the interpreter (seen with msgspec 0.22: a segmentation fault while both evaluated the
annotations). So every process with threads warms up its decoders first, at its start. An enclave program
does so for what it has imported, and decodes everything later in one thread; a process outside, where any
thread may decode anything, imports all messages beforehand (transparency_log/messages.py). Modules that
bring torch come later; they make their decoders as they are imported, which one thread does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import msgspec
from msgspec import Struct


def warm_up_decoders() -> None:
    """Resolve all message types that are imported by now."""
    for kind in _kinds(Struct):
        with suppress(TypeError, NameError):  # never decoded: it holds what no message can
            msgspec.json.Decoder(kind)


def _kinds(base: type[Struct]) -> Iterator[type[Struct]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)
