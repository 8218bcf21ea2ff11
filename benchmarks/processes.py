"""What processes cost, as Linux counts it."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_seconds(root: int) -> float:
    """CPU time of a process and all below it, those that have ended too."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(words[1])
            used[int(entry.name)] = sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")
    ours, before = {root}, set[int]()
    while ours != before:
        before = set(ours)
        ours |= {pid for pid, parent in parents.items() if parent in ours}
    return sum(used.get(pid, 0.0) for pid in ours)
