"""The machine's part of `check`: room, memory, processors and GPU (trusted execution: tee_checks.py)."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from site_agent.check_rows import CheckRow, Outcome
from site_agent.formatting import counted, readable_bytes
from site_agent.state import State

LEAST_DISK = 5 << 30
LEAST_MEMORY = 4 << 30
GPUS = Path("/proc/driver/nvidia/gpus")


def machine(state: State) -> Iterator[CheckRow]:
    free = shutil.disk_usage(state.folder).free
    hint = f"Make room, or move the state folder; {readable_bytes(LEAST_DISK)} are enough for most runs."
    yield CheckRow("disk", *_enough(free, LEAST_DISK, f"{readable_bytes(free)} free", hint))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    hint = f"Training the small models needs {readable_bytes(LEAST_MEMORY)}; larger ones need more."
    yield CheckRow(
        "memory", *_enough(memory, LEAST_MEMORY, f"{readable_bytes(memory)} in this machine", hint)
    )
    yield CheckRow("processors", "pass", counted(len(os.sched_getaffinity(0)), "core"))


def _enough(there: int, least: int, found: str, hint: str) -> tuple[Outcome, str, str]:
    return ("pass", found, "") if there >= least else ("fail", found, hint)


def gpu(state: State) -> Iterator[CheckRow]:
    """Which accelerators the driver shows; none is no fault."""
    try:
        texts = [(folder / "information").read_text() for folder in sorted(GPUS.iterdir())]
    except OSError:
        texts = []
    models = [re.search(r"^Model:\s*(.+)$", text, re.MULTILINE) for text in texts]
    names = [match.group(1).strip() for match in models if match]
    if names:
        yield CheckRow("GPU", "pass", ", ".join(names))
    elif list(Path("/dev").glob("nvidia[0-9]*")):
        yield CheckRow("GPU", "pass", "an NVIDIA device; its driver does not name it")
    else:
        yield CheckRow("GPU", "pass", "none; the processor does the multiplications, slower")
