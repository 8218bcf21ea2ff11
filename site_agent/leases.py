"""A leased job, kept alive: while the work goes on, a thread tells the coordinator how far it is.

The work itself only calls `tell`, which costs nothing. If the coordinator takes the lease back, or the agent
is asked to stop, the next `tell` or `check` raises, and the work ends there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from contracts.agents_api.jobs import (
    FAILURE,
    LEASE,
    MAX_DETAIL,
    MAX_STAGE,
    MOST_FACTS,
    PROGRESS,
    RESULT,
    Failure,
    LeasedJob,
    ProgressBody,
    Wish,
)
from contracts.facts import sayable
from contracts.jobs import Joining, Result, inputs_of
from contracts.refusal import Fact, Refusal
from site_agent.transport import Coordinator, HttpAnswer, is_passing
from translations.catalogues import marked, words

_ = words("site_agent")

log = logging.getLogger(__name__)

QUICK_SECONDS = 2.0
"""How soon news are reported."""
SLOW_SECONDS = 15.0
"""How often the lease is kept alive without news; a lease lasts 60 s."""

SHOWN_SECONDS = 60.0
"""How often long work is shown to people."""

T = TypeVar("T", bound=Joining)


def given(job: LeasedJob, wanted: type[T]) -> T:
    """The job's inputs.

    Raises: `agent.bad_inputs` for what is not of the agreed form.
    """
    return inputs_of(job.kind, bytes(job.inputs), wanted)


def ask(coordinator: Coordinator, wait: int, patience: float) -> HttpAnswer[LeasedJob]:
    """Ask for work, and let the coordinator keep the request for `wait` seconds: the job, or None, with
    headers."""
    return coordinator.answer(LEASE, Wish(wait), patience=patience)


class Lease:
    """`with Lease(coordinator, job, show) as lease:` keeps it alive inside of the block.

    `show` gets a line for people now and then."""

    def __init__(self, coordinator: Coordinator, job: LeasedJob, show: Callable[[str], None]) -> None:
        self.job = job
        self._show = show
        self._coordinator = coordinator
        self._news = ProgressBody(job.lease, "starting")
        self._fresh = threading.Event()
        self._over = threading.Event()
        self._lost: Refusal | None = None
        self._thread = threading.Thread(target=self._keep, name=f"lease-{job.id}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._fresh.set()
        self._thread.join(timeout=5)

    def tell(self, stage: str, fraction: float | None = None, detail: str = "") -> None:
        """Say how far the work is (no row, no label).

        Raises: as `check` does.
        """
        self.check()
        self._news = ProgressBody(self.job.lease, stage[:MAX_STAGE], fraction, detail[:MAX_DETAIL])
        self._fresh.set()

    def check(self) -> None:
        """Raises: `agent.stopped`, or what the coordinator said when it took the lease back."""
        if self._coordinator.stop.is_set():
            raise Refusal("agent.stopped")
        if self._lost is not None:
            raise self._lost

    def done(self, result: Result) -> None:
        """Hand the result in. Doing it twice is the same to the coordinator."""
        self.check()
        self._coordinator.post(RESULT, result, patience=300, job=self.job.id)

    def failed(self, code: str, facts: dict[str, Fact]) -> None:
        """Say why it cannot be done. It is only tried for a short time: the lease ends by itself."""
        some = sayable({name: facts[name] for name in list(facts)[:MOST_FACTS]})
        try:
            self._coordinator.last_words(FAILURE, Failure(self.job.lease, code, some), job=self.job.id)
        except Refusal as refusal:
            log.info("the failure of job %s could not be reported: %s", self.job.id, refusal.code)

    def _in_words(self) -> str:
        news = self._news
        done = "" if news.fraction is None else f" {news.fraction:.0%}"
        return f"{in_words(self.job)}: {news.stage}{done}" + (f", {news.detail}" if news.detail else "")

    def _keep(self) -> None:
        reported_at, shown_at = 0.0, time.monotonic()
        while not self._over.is_set():
            self._fresh.wait(SLOW_SECONDS)
            self._over.wait(max(0.0, reported_at + QUICK_SECONDS - time.monotonic()))
            self._fresh.clear()
            if self._over.is_set():
                return
            reported_at = time.monotonic()
            if reported_at - shown_at >= SHOWN_SECONDS:
                shown_at = reported_at
                self._show(self._in_words())
            try:
                self._coordinator.post(PROGRESS, self._news, patience=0, job=self.job.id)
            except Refusal as refusal:
                if not is_passing(refusal):
                    self._lost = refusal
                    return
                log.info("progress of job %s could not be reported: %s", self.job.id, refusal.code)


JOBS: dict[str, str] = {
    "join": marked("Join"),
    "features": marked("Features"),
    "rewrap": marked("Rewrap"),
    "train": marked("Train"),
    "evaluate": marked("Evaluate"),
    "countersign": marked("Countersign"),
    "share": marked("Share"),
}


def in_words(job: LeasedJob) -> str:
    """`Train (round 2)`, for people."""
    kind = _(JOBS[job.kind]) if job.kind in JOBS else _("Unknown job")
    part = _("round %(number)s") % {"number": job.round} if job.round else _("the run")
    return f"{kind} ({part})"
