"""One input against one target: it answers, or refuses by a code of the catalogue, in its time and memory."""

from __future__ import annotations

import resource
import time

from contracts.refusal import Refusal
from error_catalogue import CATALOGUE
from tests.fuzz.targets import Target

MEMORY = 512 << 20
"""How far one input of at most 256 KiB may raise the peak of a process's memory, in bytes."""


class Fault(Exception):
    """What a target must not do; the input is beside it."""


def attempt(target: Target, data: bytes) -> str | None:
    """The code that it was refused with, None where it was read. Raises `Fault`."""
    started, before = time.process_time(), _peak()
    try:
        target.parse(data)
        code = None
    except Refusal as refusal:
        code = refusal.code
        if code not in CATALOGUE or code == "internal":
            raise Fault(f"{target.name}: {code} is not in the catalogue") from refusal
    except MemoryError as error:
        raise Fault(f"{target.name}: it asked for all memory") from error
    except Exception as error:
        raise Fault(f"{target.name}: {type(error).__name__}: {str(error)[:200]}") from error
    took = 1000 * (time.process_time() - started)
    if took > target.milliseconds:
        raise Fault(f"{target.name}: {took:.0f} ms for {len(data)} bytes")
    if _peak() - before > MEMORY:
        raise Fault(f"{target.name}: {(_peak() - before) >> 20} MiB for {len(data)} bytes")
    return code


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
