"""Rounds: open one, see it through, and say what comes next.

Which round does what, contracts/course.py says. A round that was given up is not repeated: its number stays
unused, because each site countersigns a number once.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from contracts.course import is_over, next_round
from contracts.manifest import CLOSING_TRIES, Manifest
from contracts.refusal import Fact, Refusal
from contracts.round_kind import kind_of
from enclave_jobs import dispatch
from enclave_jobs.conductor import aggregating, collecting, countersigning, joining, methods, restarting
from enclave_jobs.conductor.attendance import joined
from enclave_jobs.conductor.published import last_receipt
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.jobs.models import Job, JobKind
from enclave_jobs.runs.models import Round, RoundKind, RoundState, Run, RunState
from enclave_jobs.runs.queries import counting
from federation import logs
from federation.frozen import manifest_of
from federation.studies.events import apply, note, note_sites

KINDS = {"update": RoundKind.TRAIN, "closing": RoundKind.EVALUATE, "test": RoundKind.TEST}
"""What contracts/course.py says that a round does, and its kind here."""


def advance(run: Run) -> None:
    """See the last round through, or go on to the next."""
    last = Round.objects.filter(run=run).select_related("run__study").order_by("-number").first()
    logs.also(round=None if last is None else last.number)
    if last is not None and last.state == RoundState.AGGREGATING:
        # The answer may be there although the enclave is gone: it is asked for first.
        aggregating.aggregate(last)
        return
    restarting.require_alive(run)
    if last is None:
        _go_on(run, 0)
    elif last.state in (RoundState.OPEN, RoundState.COLLECTING):
        methods.of_run(run).offer_jobs(last)
        collecting.advance(last)
    elif last.state == RoundState.COUNTERSIGNING:
        methods.of_run(run).ask_again(last)
        countersigning.advance(last)
    else:
        _go_on(run, last.number)


def _go_on(run: Run, number: int) -> None:
    """The round that comes after the last that was tried, or the run's end."""
    manifest = manifest_of(run)
    receipt = last_receipt(run)
    following = next_round(manifest, receipt, number)
    if following is not None:
        open_round(run, following, KINDS[kind_of(manifest, following)], manifest)
        return
    if receipt is None:
        raise Refusal("run.no_quorum", round=number, found=0, quorum=manifest.aggregation.quorum)
    if not is_over(manifest, receipt):
        raise Refusal("run.not_closed", tries=CLOSING_TRIES)
    with transaction.atomic():
        if apply(run, RunState.RUNNING, RunState.FINISHING):
            dispatch.after_commit(dispatch.ADVANCE, run.pk)


def open_round(run: Run, number: int, kind: RoundKind, manifest: Manifest) -> None:
    """Open a round with every site that has joined; sites that were away are asked to join for the next one.

    A site that let the last round's deadline pass and has not been heard of since is not waited for again.
    """
    method = methods.of(manifest)
    joining.offer_all(run, Enclave.objects.get(pk=run.enclave_id), manifest)
    here = joined(run)
    missing = _silent(run, number)
    present = [site for site in here if site not in missing]
    if counting(run, present) < manifest.aggregation.quorum:
        present = here
    deadline = timezone.now() + timedelta(seconds=manifest.aggregation.deadline_seconds)
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run.pk)
        round, fresh = Round.objects.get_or_create(
            run=run, number=number, defaults={"kind": kind, "deadline": deadline}
        )
        if not fresh:
            return
        note(round, "round.open", purpose=kind.value, sites=len(present), of=len(manifest.sites))
        method.enrol(round, present)
        away, why = sorted({member.id for member in manifest.sites} - set(present)), _why_away(run)
        facts: dict[str, dict[str, Fact]] = {
            site: {"joined": True} if site in here else {"joined": False, **why.get(site, {})}
            for site in away
        }
        note_sites(round, "site.left_out", facts)
        apply(round, RoundState.OPEN, RoundState.COLLECTING)
    method.offer_jobs(round)


def _silent(run: Run, number: int) -> set[str]:
    """The sites that were too late for the last round and have not been heard of since it was closed."""
    last = Round.objects.filter(run=run, number=number - 1).first()
    if last is None or last.closed_at is None:
        return set()
    gone = ("contribution.late", "countersignature.missing")
    late = last.contributions.filter(error_code__in=gone).select_related("site")
    return {row.site_id for row in late if row.site.last_seen is None or row.site.last_seen < last.closed_at}


def _why_away(run: Run) -> dict[str, dict[str, Fact]]:
    """Code and facts of the failure that keeps a site (its id) from joining the present enclave."""
    joins = Job.objects.filter(run=run, enclave=run.enclave_id, kind=JobKind.JOIN).exclude(error_code="")
    return {job.site_id: {**job.facts, "code": job.error_code} for job in joins}
