"""Giving freed memory back to the system: glibc keeps it for later, after a model was cut as much as the
model itself. Runs inside the enclave."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return freed memory to the system. A C library without `malloc_trim` keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
