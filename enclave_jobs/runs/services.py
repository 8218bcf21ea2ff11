"""How runs begin, move on and end. The conductor and the pages call these verbs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from contracts.refusal import Fact, Refusal
from enclave_jobs import dispatch
from enclave_jobs.runs.models import PENDING, ContributionState, RoundState, Run, RunState
from enclave_jobs.runs.queries import counting
from enclave_jobs.runs.transitions import RUN
from federation import spans
from federation.audit.services import record
from federation.frozen import frozen
from federation.people.models import User
from federation.sites.wake import wake
from federation.studies import permissions
from federation.studies.events import apply, note
from federation.studies.models import Event, Study, StudyState
from federation.studies.services import take_off

PROCEEDED_EARLY = "run.proceeded_early"
"""The kind of the event that says: do not wait for more sites to join."""
_WAITING = (RoundState.OPEN, RoundState.COLLECTING, RoundState.COUNTERSIGNING)


def launch(by: User, study: Study) -> Run:
    """Start the run that every site signed for.

    Raises: as `studies.services.take_off` does.
    """
    with transaction.atomic():
        manifest = take_off(by, study)
        run = Run.objects.create(
            id=manifest.run, study=study, manifest=study.manifest or "", manifest_hash=study.manifest_hash
        )
        Event.objects.create(**run.belongs, kind="run.starting", to_state=run.state)
        record(by, "run.launched", f"run:{run.pk}", manifest=run.manifest_hash)
        dispatch.after_commit(dispatch.ADVANCE, run.pk)
    return run


def finish(run: Run, summary: dict[str, Any]) -> bool:
    """All rounds are done: keep the summary, finish the study. False if the run had moved on."""
    with transaction.atomic():
        ended: dict[str, Any] = {"summary": summary, "finished_at": timezone.now()}
        if not apply(run, RunState.FINISHING, RunState.FINISHED, **ended):
            return False
        _tell_span(run, RunState.FINISHED)
        apply(run.study, StudyState.RUNNING, StudyState.FINISHED)
        record(None, "run.finished", f"run:{run.pk}")
        dispatch.after_commit(dispatch.END, run.pk)
    return True


def fail(run: Run, code: str, facts: dict[str, Fact] | None = None) -> bool:
    """The run cannot go on; the code says why. Its study goes back to draft. False if the run had ended."""
    with transaction.atomic():
        ended: dict[str, Any] = {"error_code": code, "finished_at": timezone.now()}
        if not _leave(run, RunState.FAILED, facts={"code": code, **(facts or {})}, **ended):
            return False
        Run.objects.filter(pk=run.pk).update(facts=facts or {})
        run.facts = facts or {}
        apply(run.study, StudyState.RUNNING, StudyState.DRAFT, manifest=None, manifest_hash="")
        record(None, "run.failed", f"run:{run.pk}", code=code)
        dispatch.after_commit(dispatch.END, run.pk)
    return True


def cancel(by: User, run: Run, why: str = "") -> None:
    """Somebody stops the run for good.

    Raises: `auth.forbidden` or `run.wrong_state`.
    """
    if not permissions.can_cancel(by, run.study):
        raise Refusal("auth.forbidden")
    with transaction.atomic():
        if not _leave(run, RunState.CANCELLED, facts={"why": why[:500]}, finished_at=timezone.now()):
            raise Refusal("run.wrong_state", state=run.state)
        apply(run.study, StudyState.RUNNING, StudyState.CANCELLED)
        record(by, "run.cancelled", f"run:{run.pk}", why=why[:500])
        dispatch.after_commit(dispatch.END, run.pk)


def pause(by: User, run: Run) -> None:
    """Offer no new work until `resume`; work that sites have taken goes on."""
    _steer(by, run, [RunState.JOINING, RunState.RUNNING], RunState.PAUSED)


def resume(by: User, run: Run) -> None:
    """Go on where the run was paused. Time that was paused is no time that sites were waited for: the open
    round's deadline moves on by it."""
    paused = run.events.filter(kind="run.paused").order_by("-pk").first()
    back = RunState.JOINING if paused is None else RunState(paused.from_state)
    with transaction.atomic():
        _steer(by, run, [RunState.PAUSED], back)
        if paused is not None:
            lasted = timezone.now() - paused.at
            waiting = run.rounds.filter(state__in=_WAITING, deadline__isnull=False)
            waiting.update(deadline=F("deadline") + lasted)
        wake(frozen(run).names)


@dataclass(frozen=True)
class Here:
    """Whom the lead could go on without: `found` of `of` are here, `counted` of them count
    (contracts/counting.py), of whom `quorum` are needed at least."""

    found: int
    of: int
    quorum: int
    counted: int

    @property
    def enough(self) -> bool:
        """May the run go on now?"""
        return self.quorum <= self.counted and self.found < self.of


def who_is_here(run: Run) -> Here | None:
    """Who has joined, or handed in, while others are waited for; None where nobody is."""
    manifest = frozen(run).manifest
    if manifest is None:
        return None
    quorum = manifest.aggregation.quorum
    if run.state == RunState.JOINING:
        since = run.events.filter(kind="run.joining").order_by("-pk").values_list("pk", flat=True).first()
        joined = run.events.filter(kind="site.joined", pk__gt=since or 0)
        arrived = set(joined.values_list("site", flat=True))
        return Here(len(arrived), len(manifest.sites), quorum, counting(run, arrived))
    round = run.rounds.filter(state=RoundState.COLLECTING).order_by("-number").first()
    if run.state != RunState.RUNNING or round is None:
        return None
    states = dict(round.contributions.values_list("site_id", "state"))
    pending = [state for state in states.values() if state in PENDING]
    done = [site for site, state in states.items() if state == ContributionState.SUBMITTED]
    return Here(len(done), len(done) + len(pending), quorum, counting(run, done))


def proceed(by: User, run: Run) -> None:
    """Wait no longer for those who are late: go on with those who are here, who must be a quorum.

    A round's deadline becomes now; joining ends. The conductor's next step does the rest.

    Raises: `auth.forbidden`, `run.wrong_state` or `run.below_quorum`.
    """
    if not permissions.can_edit(by, run.study):
        raise Refusal("auth.forbidden")
    with transaction.atomic():
        run.state = Run.objects.select_for_update().get(pk=run.pk).state
        here = who_is_here(run)
        if here is None:
            raise Refusal("run.wrong_state", state=run.state)
        if not here.enough:
            raise Refusal("run.below_quorum", found=here.counted, of=here.of, quorum=here.quorum)
        round = run.rounds.filter(state=RoundState.COLLECTING).order_by("-number").first()
        if round is not None and run.state == RunState.RUNNING:
            run.rounds.filter(pk=round.pk).update(deadline=timezone.now())
            note(round, "round.proceeded_early", found=here.found, of=here.of)
        else:
            note(run, PROCEEDED_EARLY, found=here.found, of=here.of)
        record(by, "run.proceeded_early", f"run:{run.pk}", found=here.found, of=here.of)


def _steer(by: User, run: Run, sources: list[RunState], target: RunState) -> None:
    if not permissions.can_edit(by, run.study):
        raise Refusal("auth.forbidden")
    with transaction.atomic():
        state = Run.objects.select_for_update().get(pk=run.pk).state
        if state not in sources or not apply(run, state, target):
            raise Refusal("run.wrong_state", state=state)
        record(by, f"run.{'paused' if target == RunState.PAUSED else 'resumed'}", f"run:{run.pk}")


def _leave(run: Run, target: RunState, *, facts: dict[str, Fact], **changes: Any) -> bool:
    """Move a live run, whatever state it is in, to its end."""
    run.state = Run.objects.select_for_update().get(pk=run.pk).state
    if (run.state, target) not in RUN or not apply(run, run.state, target, facts=facts, **changes):
        return False
    _tell_span(run, target)
    return True


def _tell_span(run: Run, target: RunState) -> None:
    transaction.on_commit(partial(spans.of_run, run.pk, run.created_at, timezone.now(), target.value))
