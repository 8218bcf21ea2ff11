"""A leased job, kept alive: while the work goes on, a thread tells the coordinator how far it is.

The work itself only calls `tell`, which costs nothing. If the coordinator takes the lease back, or the agent
is asked to stop, the next `tell` or `check` raises, and the work ends there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

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


class Job(Struct, frozen=True):
    """A job as the coordinator leases it. `deadline` is in Unix seconds; `given` reads `inputs`."""

    id: str
    kind: str
    lease: int
    deadline: float
    run: str
    manifest_hash: str
    round: int | None
    inputs: dict[str, Any]


def given(job: Job, wanted: type[T]) -> T:
    """The job's inputs.

    Raises: `agent.bad_inputs` for what is not of the agreed form.
    """
    return inputs_of(job.kind, job.inputs, wanted)


def ask(coordinator: Coordinator, wait: int, patience: float) -> tuple[Job | None, HttpAnswer]:
    """Ask for work, and let the coordinator keep the request for `wait` seconds: the job, or None, with the
    answer for its headers."""
    body = {"wait": wait} if wait else {}
    answer = coordinator.call("POST", "lease", body, patience=patience)
    if answer.status == 204 or answer.body is None:
        return None, answer
    try:
        job = msgspec.convert(answer.body, Job)
    except msgspec.ValidationError as error:
        raise Refusal("agent.bad_answer", fault="the job is not of the agreed form") from error
    return job, answer


class Lease:
    """`with Lease(coordinator, job, show) as lease:` keeps it alive inside of the block.

    `show` gets a line for people now and then."""

    def __init__(self, coordinator: Coordinator, job: Job, show: Callable[[str], None]) -> None:
        self.job = job
        self._show = show
        self._coordinator = coordinator
        self._news: dict[str, Any] = {"stage": "starting", "fraction": None, "detail": ""}
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
        self._news = {"stage": stage[:64], "fraction": fraction, "detail": detail[:300]}
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
        body = msgspec.to_builtins(result)
        self._coordinator.call("POST", f"jobs/{self.job.id}/result", body, patience=300)

    def failed(self, code: str, facts: dict[str, Fact]) -> None:
        """Say why it cannot be done. It is only tried for a short time: the lease ends by itself."""
        body = {
            "lease": self.job.lease,
            "code": code,
            "facts": {name: facts[name] for name in list(facts)[:32]},
        }
        try:
            self._coordinator.last_words(f"jobs/{self.job.id}/failure", body)
        except Refusal as refusal:
            log.info("the failure of job %s could not be reported: %s", self.job.id, refusal.code)

    def _in_words(self) -> str:
        news = self._news
        share = "" if news["fraction"] is None else f" {news['fraction']:.0%}"
        return f"{in_words(self.job)}: {news['stage']}{share}" + (
            f", {news['detail']}" if news["detail"] else ""
        )

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
                body = {"lease": self.job.lease, **self._news}
                self._coordinator.call("POST", f"jobs/{self.job.id}/progress", body, patience=0)
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


def in_words(job: Job) -> str:
    """`Train (round 2)`, for people."""
    kind = _(JOBS[job.kind]) if job.kind in JOBS else _("Unknown job")
    part = _("round %(number)s") % {"number": job.round} if job.round else _("the run")
    return f"{kind} ({part})"
