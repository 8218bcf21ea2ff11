"""How much memory the enclave takes, and giving back what it no longer needs.

Pages of an enclave are scarce. glibc keeps freed memory for later; after a model was cut that would be as
much as the model itself. Runs inside the enclave.
"""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path


def peak_memory() -> int:
    """The highest memory use of this process in bytes (getrusage would count its parent's, too)."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):  # Gramine may show no such line
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def give_back() -> None:
    """Return freed memory to the system. A C library without `malloc_trim` keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
