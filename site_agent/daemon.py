"""`run`: heartbeats, one job after the other, and nothing that was not approved here.

The loop never gives up on the network, and ends in order on SIGTERM: the job in progress is handed back, so
that it is leased again at once when the agent returns.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from contracts.agents_api.jobs import LeasedJob
from contracts.faults import log_fault
from contracts.refusal import Refusal
from error_catalogue import explain
from error_catalogue.last_resort import is_of_the_disk, refusal_of
from site_agent import methods
from site_agent.approvals import approved_manifest
from site_agent.checks import as_reported, run_checks
from site_agent.enrolment import connect, heartbeat, say_goodbye
from site_agent.formatting import readable_seconds
from site_agent.leases import Lease, in_words
from site_agent.line import LONGEST_WAIT, PlaceInLine
from site_agent.methods.interface import RUN_OVER, JobRunner, RunPart
from site_agent.state import State
from site_agent.tee_checks import without_hardware
from site_agent.transport import Coordinator, is_passing
from site_agent.witness import LogWitness
from translations.catalogues import words

_ = words("site_agent")

HEARTBEAT_SECONDS = 30.0
CHECK_SECONDS = 1800.0
LOG_SECONDS = 300.0
RUN_CHECK_SECONDS = 120.0
REFUSED_SECONDS = 60.0
FOREVER = 10 * 365 * 86400.0

FORGET = {
    "run.not_admitted",
    "run.reattest",
    "admission.not_admitted",
    "sealing.refused",
    "round.wrong_receipt",
}
"""After these the enclaves are attested again before the next job."""


def explained(refusal: Refusal) -> str:
    """A refusal as one line for a person: what happened, its code, what to do."""
    entry = explain(refusal.code, refusal.facts)
    return f"{entry.message} [{refusal.code}] {entry.hint}"


class Daemon:
    """One site agent at work. `tell` takes lines for people."""

    def __init__(
        self, state: State, tell: Callable[[str], None], stop: threading.Event | None = None
    ) -> None:
        self.stop = stop or threading.Event()
        self._state = state
        self._tell = tell
        self._coordinator: Coordinator = connect(state, stop=self.stop, tell=tell)
        self._witness = LogWitness.of(state)
        self._line = PlaceInLine(self._coordinator, self._want_checks)
        self._parts: dict[str, RunPart] = {}
        self._checks_due = threading.Event()
        self._looked_at_log = float("-inf")
        self._looked_at_runs = time.monotonic()

    def run(self, *, once: bool = False, until_idle: float | None = None) -> None:
        """Work until `stop` is set; with `once` until one job is done, with `until_idle` until there was
        none for that many seconds.

        Raises: `log.fork` when the coordinator's log is not what it was.
        """
        threads = [
            threading.Thread(target=self._beat, name="heartbeat", daemon=True),
            threading.Thread(target=self._end_work_on_stop, name="end-of-work", daemon=True),
        ]
        for thread in threads:
            thread.start()
        config = self._state.config
        here = {"name": config.name, "site": config.site, "coordinator": config.coordinator}
        missing = without_hardware(self._state)
        if missing:
            lacks = {**here, "runtime": config.runtime, "missing": "; ".join(missing)}
            self._tell(
                _(
                    'Site "%(name)s" (%(site)s) is connected to %(coordinator)s. This machine cannot start '
                    "enclaves of its runtime %(runtime)s, which Method 1 needs: %(missing)s. "
                    "See: python -m site_agent check"
                )
                % lacks
            )
        else:
            self._tell(_('Site "%(name)s" (%(site)s) is ready for work from %(coordinator)s.') % here)
        try:
            self._loop(once, until_idle)
        except Refusal as refusal:
            if refusal.code != "agent.stopped":
                raise
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(timeout=5)
            for session, _part in self._parts.values():
                session.close()
            with contextlib.suppress(Refusal):
                say_goodbye(self._coordinator, self._state)
            self._coordinator.close()
            self._tell(_("The site agent has stopped."))

    def _loop(self, once: bool, until_idle: float | None) -> None:
        idle_since = time.monotonic()
        while not self.stop.is_set():
            try:
                self._look_at_log()
                job = self._line.next_job(LONGEST_WAIT if until_idle is None else until_idle, FOREVER)
            except (Refusal, OSError) as error:
                refusal = error if isinstance(error, Refusal) else refusal_of(error)
                if once or until_idle is not None or refusal.code in ("agent.stopped", "log.fork"):
                    raise
                # Suspended, a clock that is off, a full disk, no log: people fix that while we wait.
                self._tell(explained(refusal))
                self._coordinator.rest(REFUSED_SECONDS)
                continue
            if job is not None:
                self._do(job)
                if once:
                    return
                idle_since = time.monotonic()
                continue
            if until_idle is not None and time.monotonic() - idle_since >= until_idle:
                return
            self._forget_finished_runs()

    def _do(self, job: LeasedJob) -> None:
        """One job from lease to result or failure. Only `log.fork` and `agent.stopped` leave it."""
        self._tell(_("%(job)s begins.") % {"job": in_words(job)})
        started = time.monotonic()
        with Lease(self._coordinator, job, self._tell) as lease:
            try:
                runner = self._runner_of(job)
                lease.done(runner.do(job, lease))
                runner.prepare_next(job)
                took = readable_seconds(time.monotonic() - started)
                self._tell(_("%(job)s is done, after %(took)s.") % {"job": in_words(job), "took": took})
            except Refusal as refusal:
                self._failed(job, lease, refusal)
            except OSError as error:
                log_fault(error)
                self._failed(job, lease, _refusal_of(error))
            except Exception as error:
                # The text of an unforeseen error may quote a row; its place is enough to find it.
                log_fault(error)
                self._failed(job, lease, Refusal("internal"))

    def _failed(self, job: LeasedJob, lease: Lease, refusal: Refusal) -> None:
        if self.stop.is_set():
            lease.failed("agent.stopped", {})
            raise Refusal("agent.stopped")
        self._tell(explained(refusal))
        if refusal.code in RUN_OVER:
            self._forget(job.manifest_hash)
        elif refusal.code in FORGET or refusal.code.startswith("program."):
            part = self._parts.get(job.manifest_hash)
            if part is not None:
                part.session.attest_again()
        if refusal.code not in ("lease.late", "lease.foreign", "job.unknown"):
            lease.failed(refusal.code, refusal.facts)
        if refusal.code == "log.fork":
            raise refusal

    def _runner_of(self, job: LeasedJob) -> JobRunner:
        """The run's work; it refuses here if the manifest was not approved at this site."""
        self._witness.require_no_fork()
        if job.manifest_hash not in self._parts:
            manifest = approved_manifest(self._state, job.manifest_hash)
            if manifest.run != job.run:
                raise Refusal("run.wrong_manifest", fingerprint=job.manifest_hash[:16])
            part = methods.of(manifest).take_part(self._state, self._coordinator, job.run, job.manifest_hash)
            self._parts[job.manifest_hash] = part
        return self._parts[job.manifest_hash].runner

    def _look_at_log(self) -> None:
        """Now and then, and at the start. A line that is down is no fork."""
        if time.monotonic() - self._looked_at_log < LOG_SECONDS:
            return
        try:
            self._witness.look(self._coordinator)
        except Refusal as refusal:
            if not is_passing(refusal):
                raise
        self._looked_at_log = time.monotonic()

    def _forget_finished_runs(self) -> None:
        """Free the memory and the disk of runs that the coordinator has closed."""
        if time.monotonic() - self._looked_at_runs < RUN_CHECK_SECONDS:
            return
        self._looked_at_runs = time.monotonic()
        for manifest_hash, (session, _part) in list(self._parts.items()):
            if not session.is_active():
                self._tell(
                    _('The run of "%(study)s" is over; its client slice ends.')
                    % {"study": session.manifest.study}
                )
                self._forget(manifest_hash)

    def _forget(self, manifest_hash: str) -> None:
        found = self._parts.pop(manifest_hash, None)
        if found is not None:
            found.session.forget()

    def _want_checks(self) -> None:
        self._checks_due.set()

    def _beat(self) -> None:
        """Heartbeats, HEARTBEAT_SECONDS after the coordinator last heard of us, be it on the line; and the
        connection checks, each half hour and when somebody asks. Failures are only logged."""
        next_checks = 0.0
        while not self.stop.is_set():
            checks = None
            if self._checks_due.is_set() or time.monotonic() >= next_checks:
                self._checks_due.clear()
                checks = as_reported(run_checks(self._state))
                next_checks = time.monotonic() + CHECK_SECONDS
            if checks is not None or time.monotonic() - self._line.answered_at >= HEARTBEAT_SECONDS:
                with contextlib.suppress(Refusal):
                    if heartbeat(self._coordinator, self._state, checks).check and checks is None:
                        self._checks_due.set()
                        continue
            quiet = time.monotonic() - self._line.answered_at
            pause = HEARTBEAT_SECONDS - quiet if quiet < HEARTBEAT_SECONDS else HEARTBEAT_SECONDS
            _first_of(self.stop, self._checks_due, pause)

    def _end_work_on_stop(self) -> None:
        """A client slice that trains hears no signal; ending it ends the call that waits for it."""
        self.stop.wait()
        for session, _part in list(self._parts.values()):
            session.close()


def _first_of(stop: threading.Event, other: threading.Event, seconds: float) -> None:
    """Wait until one of the two is set, looking at the other once a second."""
    ends = time.monotonic() + seconds
    while not stop.is_set() and not other.is_set() and time.monotonic() < ends:
        stop.wait(min(1.0, max(0.0, ends - time.monotonic())))


def _refusal_of(error: OSError) -> Refusal:
    """What the coordinator hears: that it is the disk, and no path of this machine."""
    if not is_of_the_disk(error):
        return Refusal("internal")
    return Refusal(refusal_of(error).code, file="the site agent's files")
