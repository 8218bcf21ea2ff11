"""Signs of life while something takes long: so that nobody takes a large file for a program that hangs."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

EVERY = 2.0
"""Seconds. What is done before says nothing."""


class Pulse:
    """While it is entered, says every few seconds what goes on, how far it is and for how long.

    On the error stream, so that it can be cut off from the answer; at a terminal on one line.
    """

    def __init__(self, what: str) -> None:
        self._what, self._rows = what, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def rows(self, count: int) -> None:
        """So many are through."""
        self._rows = count

    def _beat(self) -> None:
        begun = time.monotonic()
        line = sys.stderr.isatty()
        while not self._ended.wait(EVERY):
            rows = f"{self._rows:,} rows, " if self._rows else ""
            words = f"{self._what}: {rows}{time.monotonic() - begun:.0f} s …"
            self._say(f"\r{words}\x1b[K" if line else f"{words}\n")
        if line and time.monotonic() - begun > EVERY:
            self._say("\r\x1b[K")

    def _say(self, words: str) -> None:
        try:
            sys.stderr.write(words)
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody listens any more: the work goes on
            self._ended.set()
