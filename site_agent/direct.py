"""A sealed file straight into the storage, in parts; what is there is not sent again.

What fails here is no failure: `site_agent.blobs` goes on by the coordinator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import UnsetType

from contracts.agents_api.blobs import PART, WHOLE, PartBody
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from site_agent.backoff import pause
from site_agent.storage import Storage, part_hash
from site_agent.transport import Coordinator

LEAST_PART, LARGEST_PART = 5 << 20, 1 << 30
TRIES = 3
WHOLE_SECONDS = 900.0
"""How long the coordinator may read back."""
OURS = {"agent.storage", "agent.storage_elsewhere"}
BY_THE_COORDINATOR = {
    *OURS, "agent.bad_answer", "blob.no_direct_way", "blob.parts_missing", "blob.hash_mismatch",
    "blob.unknown", "blob.storage_away", "blob.invalid", "blob.busy", "request.not_found",
    "request.other_version",
}  # fmt: skip
"""Refusals after which the file goes by the coordinator."""


def usable(coordinator: Coordinator, part_bytes: int | UnsetType) -> int:
    """How long parts are, in bytes, where hospital and coordinator both want it, and nothing has just gone
    wrong; else 0."""
    if isinstance(part_bytes, UnsetType) or not LEAST_PART <= part_bytes <= LARGEST_PART:
        return 0
    return part_bytes if coordinator.storage is not None and coordinator.storage.ready else 0


def sent(
    coordinator: Coordinator,
    name: str,
    file: Path,
    part_bytes: int,
    progress: Callable[[int, int], None],
    patience: float,
) -> bool:
    """Whether the upload `name` is a blob now, by the storage alone.

    Raises: as the coordinator does, but for what it can do itself.
    """
    storage = coordinator.storage
    assert storage is not None
    size = file.stat().st_size
    try:
        for number, start in enumerate(range(0, size, part_bytes), 1):
            progress(start, size)

            def tell(done: int, start: int = start) -> None:
                progress(start + done, size)

            length = min(part_bytes, size - start)
            _send_part(coordinator, storage, name, file, number, start, length, tell, patience)
        _made_whole(coordinator, name, patience)
    except Refusal as refusal:
        if refusal.code not in BY_THE_COORDINATOR:
            raise
        storage.rest(refusal)
        return False
    progress(size, size)
    return True


def _send_part(
    coordinator: Coordinator,
    storage: Storage,
    name: str,
    file: Path,
    number: int,
    start: int,
    length: int,
    tell: Callable[[int], None],
    patience: float,
) -> None:
    sha256 = part_hash(file, start, length)
    for tried in range(TRIES):
        url = coordinator.ask(PART, PartBody(number, sha256), patience=patience, upload=name).url
        if url is None:
            return
        try:
            with file.open("rb") as content:
                content.seek(start)
                storage.put(url, content, length, sha256, tell)
            return
        except Refusal as refusal:
            if refusal.code != "agent.storage" or tried + 1 == TRIES:
                raise
            coordinator.rest(pause(tried, None))


def _made_whole(coordinator: Coordinator, name: str, patience: float) -> None:
    began, tries = time.monotonic(), 0
    while not coordinator.ask(WHOLE, Nothing(), patience=patience, upload=name).whole:
        if time.monotonic() - began > WHOLE_SECONDS:
            raise Refusal("agent.bad_answer", fault="the upload is not read back")
        coordinator.rest(pause(tries, None))
        tries += 1
