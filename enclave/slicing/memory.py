"""How much memory the enclave takes, and giving back what it no longer needs: pages of an enclave are scarce.
Runs inside the enclave."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

LARGE = 1 << 20
"""Bytes. Activations of a training step are larger, Python's objects smaller."""
_M_MMAP_THRESHOLD = -3  # malloc.h


def peak_memory() -> int:
    """The highest memory use of this process in bytes, 0 where nothing tells it.

    Linux says the highest resident size, VmHWM; Gramine 1.9 has VmPeak alone, the most that it ever mapped
    for the program, and no getrusage. No figure is worth a round that was computed.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.M) or re.search(r"^VmPeak:\s*(\d+) kB", status, re.M)
    return int(found[1]) * 1024 if found else 0


def return_large_blocks() -> None:
    """From now on a freed block of LARGE bytes goes back to the system at once.

    glibc raises its own limit to 32 MiB as soon as such blocks are freed; activations then share the heap
    with small objects, leave holes in it, and the process grows to a multiple of what it uses. A C library
    without `mallopt` is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE)
