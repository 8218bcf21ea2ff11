"""Asking for work, and waiting for it on the line: the coordinator keeps the request until there is some.

A proxy on the way may cut a request that is quiet for long. Then the next wait is half as long, down to
asking every POLL_SECONDS without any; each wait that was answered in full makes the next one longer again. A
coordinator that keeps no requests says when to ask again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from contracts.agents_api.jobs import LeasedJob
from contracts.refusal import Refusal
from site_agent.backoff import retry_after
from site_agent.leases import ask
from site_agent.transport import Coordinator, HttpAnswer, is_passing

POLL_SECONDS = 2.0
LONGEST_WAIT = 25
SHORTEST_WAIT = 3
LONGER_BY = 5
LOOK_SECONDS = 0.2
KEPT_SECONDS = 1.0
"""A request that took longer was kept; one that ended sooner says nothing about proxies."""
CHECK_HEADER = "fedslice-check"


class PlaceInLine:
    """One agent's place on the line. `check_wanted` is called when somebody asks for connection checks."""

    def __init__(self, coordinator: Coordinator, check_wanted: Callable[[], None]) -> None:
        self._coordinator = coordinator
        self._check_wanted = check_wanted
        self._wait = LONGEST_WAIT
        self.answered_at = float("-inf")
        """When the coordinator last answered (monotonic seconds): it has heard of us then."""

    def next_job(self, longest: float, patience: float) -> LeasedJob | None:
        """The next job, or None after at most about `longest` seconds without one.

        Raises: as `leases.ask` does, and `agent.stopped` as soon as the agent is to end.
        """
        wait = min(self._wait, int(longest))
        began = time.monotonic()
        try:
            answer = self._asked(wait, 0.0 if wait else patience)
        except Refusal as refusal:
            if not wait or not is_passing(refusal):
                raise
            # Cut on the way, or the line is down: what is true shows when we ask without waiting.
            if time.monotonic() - began >= KEPT_SECONDS:
                self._wait = self._wait // 2 if self._wait // 2 >= SHORTEST_WAIT else 0
            wait = 0
            answer = self._asked(wait, patience)
        self.answered_at = time.monotonic()
        if answer.value is not None:
            return answer.value
        if answer.headers.get(CHECK_HEADER):
            self._check_wanted()
        pause = retry_after(answer.headers.get("retry-after"))
        if pause is None and wait and time.monotonic() - began >= KEPT_SECONDS:
            self._wait = min(LONGEST_WAIT, self._wait + LONGER_BY)
            return None
        self._coordinator.rest(POLL_SECONDS if pause is None else pause)
        return None

    def _asked(self, wait: int, patience: float) -> HttpAnswer[LeasedJob]:
        """In a thread of its own, because nothing else ends a wait on a socket when the agent is stopped."""
        answers: SimpleQueue[HttpAnswer[LeasedJob] | BaseException] = SimpleQueue()

        def call() -> None:
            try:
                answers.put(ask(self._coordinator, wait, patience))
            except BaseException as error:
                answers.put(error)

        threading.Thread(target=call, name="line", daemon=True).start()
        while True:
            try:
                answer = answers.get(timeout=LOOK_SECONDS)
            except Empty:
                if self._coordinator.stop.is_set():
                    raise Refusal("agent.stopped") from None
                continue
            if isinstance(answer, BaseException):
                raise answer
            return answer
