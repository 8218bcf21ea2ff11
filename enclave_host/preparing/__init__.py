"""Prepared models: what a masked client slice needs of a base model's weights (enclave/slicing/prepared.py).

Preparing is a function of the base model's pinned files and the task, and of nothing else: not of labels,
adapter or public front. The coordinator's worker computes it once, when a model is registered, for the hash;
every hospital's agent computes it for itself, and takes prepared files from nobody. Nothing here is secret,
and no enclave loads it.
"""

from __future__ import annotations

from pathlib import Path

from contracts.kinds import Task
from enclave_host.bounded import ChildLimits, run_bounded
from enclave_host.child_calls import PREPARE, Prepare, Tell


def prepare_in_child(
    folder: Path, files: dict[str, str], task: Task, into: Path, tell: Tell | None = None
) -> str:
    """Prepare the base model in `folder`, whose `files` have these SHA-256, in a bounded child process, and
    write it to the new folder `into`.

    Returns: the SHA-256 of its index, which manifests pin.

    Raises: `model.*`, `slicing.*`, `masking.bad_weight`, or `child.*` where the child came to no end.
    """
    request = Prepare(str(folder), files, task, str(into))
    return run_bounded(PREPARE, request, ChildLimits.of_this_machine(), tell).index
