"""Pads made in idle time: while a site waits for the others, its client slice prepares its next round."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from contracts.masked_calls import PREPARE, PreparePadsArguments
from contracts.progress import Progress
from contracts.refusal import Refusal
from site_agent.methods.method_1.run_session import RunSession

log = logging.getLogger(__name__)

Report = Callable[[Progress], None]


class PadMaker:
    """At most one preparation at a time, in a thread of its own. As the client slice takes one request after
    the other, the next job waits for it with `wait`."""

    def __init__(self, session: RunSession) -> None:
        self._session = session
        self._thread: threading.Thread | None = None
        self._news = Progress("making pads")

    def start(self, round: int) -> None:
        """Begin with the pads of `round`, unless the run has no such round or other pads are being made."""
        last = self._session.manifest.training.rounds + 1  # of the test, a site is told when it comes
        if self._session.manifest.masking is None or round > last or self._busy:
            return
        self._news = Progress("making pads")
        self._thread = threading.Thread(target=self._make, args=(round,), name="pads", daemon=True)
        self._thread.start()

    def wait(self, progress: Report) -> None:
        """Let what has begun come to its end, and tell how far it is."""
        while self._busy and self._thread is not None:
            progress(self._news)
            self._thread.join(0.5)

    @property
    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _make(self, round: int) -> None:
        try:
            self._session.ask(PREPARE, PreparePadsArguments(round), self._hear)
        except Refusal as refusal:
            # The round itself makes its pads again, and tells what is wrong.
            log.info("the pads of round %d were not made ahead: %s", round, refusal.code)

    def _hear(self, news: Progress) -> None:
        self._news = news
