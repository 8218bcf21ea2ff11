"""The file by which a client slice and its accelerator speak, as the host makes it (format:
enclave/masking/channel.py)."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from enclave.masking.channel import MAGIC, NAME, PAGE, SharedFile


def create_channel(path: Path, name: str, *, slots: int = 2, area: int = 32 << 20) -> SharedFile:
    """Make the file again, for its owner only. It is there when it is whole."""
    making = path.with_name(f"{path.name}.new")
    making.unlink(missing_ok=True)
    descriptor = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, PAGE + 2 * slots * area)
        memory = mmap.mmap(descriptor, 0)
    finally:
        os.close(descriptor)
    memory[:24] = np.array([MAGIC, slots, area], np.uint64).tobytes()
    memory[NAME] = name.encode("ascii", "replace")[:63].ljust(64, b"\0")
    making.replace(path)
    return SharedFile(path, memory)
