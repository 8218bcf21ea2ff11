"""Sealed files to and from the coordinator, in pieces, with resume. They are ciphertext; names are SHA-256.

Up: frames of at most 1 MiB, each at the offset that the coordinator has on its disk. Down: one ranged request
from the byte that we have on ours. A broken connection costs what was in flight; nothing is sealed twice.
Where hospital and coordinator share a storage, both go there straight (direct.py), and here when that fails.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx

from contracts.agents_api.blobs import ADDRESS, BEGIN, FILE, FRAME, STANDS, NewBlob
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from site_agent import direct
from site_agent.backoff import pause
from site_agent.files import private_folder, sync_folder
from site_agent.transport import Coordinator, asked_pause, is_passing

FRAME_BYTES = 1 << 20
MAX_BLOB_BYTES = 4 << 30
PATIENCE = 900.0
"""Seconds without a single byte of progress after which a transfer is given up (the lease ends sooner)."""

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_FIXED_BY_ASKING = {"blob.busy", "blob.wrong_offset", "blob.frame_truncated"}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def upload(
    coordinator: Coordinator,
    file: Path,
    sha256: str,
    run: str,
    progress: Progress = lambda done, total: None,
    *,
    kind: Literal["update", "shard"] = "update",
    patience: float = PATIENCE,
) -> None:
    """Bring `file` up whole, going on from where an earlier try (of any process) ended. A `shard` of features
    that another run has brought is there already.

    Raises: a `blob.` or `agent.` code.
    """
    size = file.stat().st_size
    wanted = NewBlob(sha256, size, run, kind)
    begun = coordinator.ask(BEGIN, wanted, patience=patience)
    part_bytes = direct.usable(coordinator, begun.part_bytes)
    if begun.offset == 0 < size and part_bytes:
        if direct.sent(coordinator, begun.upload, file, part_bytes, progress, patience):
            return
        begun = coordinator.ask(BEGIN, wanted, patience=patience)
    name, offset = begun.upload, begun.offset
    tries, moved_at = 0, time.monotonic()
    with file.open("rb") as content:
        while offset < size:
            progress(offset, size)
            content.seek(offset)
            try:
                before = offset
                offset = _send_frame(coordinator, name, offset, content.read(FRAME_BYTES))
                if offset > before:
                    tries, moved_at = 0, time.monotonic()
            except Refusal as refusal:
                seconds = pause(tries, asked_pause(refusal))
                waited = time.monotonic() - moved_at
                resumable = is_passing(refusal) or refusal.code in _FIXED_BY_ASKING
                if not resumable or waited + seconds > patience:
                    raise
                coordinator.rest(seconds)
                tries += 1
                offset = coordinator.ask(STANDS, Nothing(), patience=patience - waited, upload=name).offset
            if not 0 <= offset <= size:
                raise Refusal("agent.bad_answer", fault="the upload's offset lies outside of the file")
    progress(size, size)


def _send_frame(coordinator: Coordinator, name: str, offset: int, frame: bytes) -> int:
    headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return coordinator.send(FRAME, frame, headers, upload=name).offset


def download(
    coordinator: Coordinator,
    sha256: str,
    target: Path,
    progress: Progress = lambda done, total: None,
    *,
    limit: int = MAX_BLOB_BYTES,
    patience: float = PATIENCE,
) -> Path:
    """Bring the blob down to `target`, which appears only when its hash is right.

    What is there of an earlier try (`target` + `.part`) is not fetched again.

    Raises: `agent.blob_corrupt` after two whole downloads with a wrong hash, `agent.blob_too_large`,
    `agent.no_space`, or another code.
    """
    if target.exists() and file_sha256(target) == sha256:
        return target
    private_folder(target.parent)
    part = target.with_name(target.name + ".part")
    for last in (False, True):
        _fetch(coordinator, sha256, part, progress, limit, patience)
        if file_sha256(part) == sha256:
            part.replace(target)
            sync_folder(target.parent)
            return target
        part.unlink()
        if last:
            break
        if coordinator.storage is not None:  # whose bytes they were: the coordinator's own come next
            coordinator.storage.rest(Refusal("agent.blob_corrupt", sha256=sha256))
    raise Refusal("agent.blob_corrupt", sha256=sha256)


def _fetch(
    coordinator: Coordinator, sha256: str, part: Path, progress: Progress, limit: int, patience: float
) -> None:
    """Fill `part` until the server has no more."""
    tries, moved_at = 0, time.monotonic()
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _fetch_rest(coordinator, sha256, part, progress, limit)
            return
        except Refusal as refusal:
            if (part.stat().st_size if part.exists() else 0) > before:
                tries, moved_at = 0, time.monotonic()
            if refusal.code == "blob.range":
                # We have as much as the server, or more: the hash decides.
                return
            seconds = pause(tries, asked_pause(refusal))
            if not is_passing(refusal) or time.monotonic() - moved_at + seconds > patience:
                raise
            coordinator.rest(seconds)
            tries += 1


@contextmanager
def _source(coordinator: Coordinator, sha256: str, have: int) -> Iterator[httpx.Response]:
    """The rest of the blob, from the storage where there is one."""
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
    storage = coordinator.storage
    if storage is None or not storage.ready:
        with coordinator.stream("GET", FILE.format(sha256=sha256), headers=headers) as response:
            yield response
        return
    try:
        url = coordinator.ask(ADDRESS, Nothing(), sha256=sha256).url
        if url is None:
            raise Refusal("agent.bad_answer", fault="it says no address")
        with storage.get(url, headers) as response:
            yield response
    except Refusal as refusal:
        if refusal.code not in direct.BY_THE_COORDINATOR:
            raise
        storage.rest(refusal)
        raise Refusal("agent.unreachable", host=storage.host, fault="the storage gave nothing") from refusal


def _fetch_rest(coordinator: Coordinator, sha256: str, part: Path, progress: Progress, limit: int) -> None:
    """One request for what is missing."""
    have = part.stat().st_size if part.exists() else 0
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with _source(coordinator, sha256, have) as response:
            total = int(response.headers.get("content-length", "0")) + have
            found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if response.status_code == 206 and found and int(found[1]) == have:
                total = int(found[2])
            else:
                # The server, or something on the way, sends everything: begin again.
                total, have = total - have, 0
            if total > limit:
                raise Refusal("agent.blob_too_large", limit=limit)
            file.seek(have)
            file.truncate()
            for piece in response.iter_raw():
                have += len(piece)
                if have > limit:
                    raise Refusal("agent.blob_too_large", limit=limit)
                _write(file.fileno(), piece)
                progress(have, max(total, have))
                if coordinator.stop.is_set():
                    raise Refusal("agent.stopped")
            os.fsync(file.fileno())
        if have < total:
            raise Refusal("agent.unreachable", host=coordinator.host, fault="the connection broke off")


def _write(descriptor: int, data: bytes) -> None:
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refusal("agent.no_space", file="the state folder") from error
        raise
