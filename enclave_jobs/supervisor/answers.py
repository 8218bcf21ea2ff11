"""Work that is done once: the answer to a key is kept until its run is over, also on disk.

A Celery worker that is killed in the middle of an aggregation leaves the work running here. The repeated task
asks for the same key and is handed the answer; after a restart of the supervisor it comes from the disk.
Refusals and faults are handed out to those who wait, and not kept: asking again tries again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from enclave_jobs.blobs.store import refusing_when_full

Answer = bytes
"""The JSON of an operation's result, as its enclave gave it."""
Tell = Callable[[], None]


class BackgroundAnswer:
    """One piece of work in its thread: `wait` for it, then read `answer` or `error`; or go, and be told."""

    def __init__(self, do: Callable[[], Answer]) -> None:
        self._do = do
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._tell: Tell | None = None
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.answer = self._do()
        except BaseException as error:
            self.error = error
        finally:
            with self._lock:
                self._over.set()
            if self._tell is not None:
                self._tell()

    def wait(self, seconds: float, tell: Tell | None = None) -> bool:
        """Whether the work is over within `seconds`; if not, `tell` is called once it is."""
        if self._over.wait(seconds):
            return True
        with self._lock:
            if not self._over.is_set():
                self._tell = tell
            return self._over.is_set()


class AnswerCache:
    """Kept answers by (run, key). Only one piece of work per key runs at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._works: dict[tuple[str, str], BackgroundAnswer] = {}

    def once(
        self,
        run: str,
        key: str,
        do: Callable[[], Answer],
        patience: float,
        tell: Tell | None = None,
        kept: Callable[[], None] = lambda: None,
    ) -> Answer | None:
        """The answer to this key: kept, joined, or worked for now. None when it is not there in `patience`
        seconds; the work goes on, and calls `tell` when it is over. `kept` is called once the answer is on
        the disk. Raises what the work raised, or `blob.storage_full` where the disk takes no answer."""
        with self._lock:
            work = self._works.get((run, key))
            if work is None:
                # Looked up under the lock: work that has just ended kept its answer before it left `_works`.
                before = self._read(run, key)
                if before is not None:
                    return before
                work = BackgroundAnswer(lambda: self._keep(run, key, do(), kept))
                self._works[run, key] = work
                work.thread.start()
        if not work.wait(patience, tell):
            return None
        with self._lock:
            if self._works.get((run, key)) is work:
                del self._works[run, key]
        if work.error is not None:
            raise work.error
        return work.answer

    def forget(self, run: str, keys: Iterable[str] = ()) -> None:
        """Drop the kept answers of a run: to these keys, or all."""
        paths = [self._path(run, key) for key in keys]
        for path in paths:
            path.unlink(missing_ok=True)
        if not paths:
            shutil.rmtree(self._folder / run, ignore_errors=True)

    def _path(self, run: str, key: str) -> Path:
        return self._folder / run / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _read(self, run: str, key: str) -> Answer | None:
        try:
            return self._path(run, key).read_bytes()
        except FileNotFoundError:
            return None

    def _keep(self, run: str, key: str, answer: Answer, kept: Callable[[], None]) -> Answer:
        path = self._path(run, key)
        with refusing_when_full():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{os.getpid()}")
            with fresh.open("wb") as file:
                file.write(answer)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        kept()
        return answer
