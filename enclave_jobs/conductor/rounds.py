"""Rounds: open one, see it through, and say what comes next.

Rounds 1 to `training.rounds` train; the one after them is the closing evaluation of the last parameters. A
round that was given up is not repeated: its number stays unused, because each site countersigns a number
once.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from contracts.manifest import Manifest
from contracts.refusal import Fact, Refusal
from enclave_jobs import leases
from enclave_jobs.conductor import (
    collecting,
    contributions,
    countersigning,
    dispatch,
    issuing,
    joining,
    restarting,
    tails,
)
from enclave_jobs.models import Enclave, Job, JobKind
from federation.sites.models import Site
from federation.studies.frozen import manifest_of
from federation.studies.models import (
    ContributionState,
    Round,
    RoundKind,
    RoundState,
    Run,
    RunState,
)
from federation.studies.queries import counting
from federation.studies.transitions import apply, note


def step(run: Run) -> None:
    """See the last round through, or go on to the next."""
    last = Round.objects.filter(run=run).select_related("run__study").order_by("-number").first()
    if last is not None and last.state == RoundState.AGGREGATING:
        # The answer may be there although the enclave is gone: it is asked for first.
        dispatch.send(dispatch.AGGREGATE, last.pk)
        return
    restarting.require_alive(run)
    if last is None:
        _go_on(run, 1)
    elif last.state in (RoundState.OPEN, RoundState.COLLECTING):
        offer_jobs(last)
        collecting.step(last)
    elif last.state == RoundState.COUNTERSIGNING:
        if tails.is_split(run):
            countersigning.ask(last)  # after a restart on behalf of the new enclave: the roster still holds
        countersigning.step(last)
    else:
        _go_on(run, last.number + 1)


def _go_on(run: Run, number: int) -> None:
    manifest = manifest_of(run)
    if number > manifest.training.rounds + 1 or tails.stopped(run):
        with transaction.atomic():
            if apply(run, RunState.RUNNING, RunState.FINISHING):
                dispatch.after_commit(dispatch.ADVANCE, run.pk)
        return
    kind = RoundKind.TRAIN if number <= manifest.training.rounds else RoundKind.EVALUATE
    published = Round.objects.filter(run=run, state=RoundState.PUBLISHED).exists()
    if kind == RoundKind.EVALUATE and not published:
        raise Refusal("run.no_quorum", round=number - 1, found=0, quorum=manifest.aggregation.quorum)
    open_round(run, number, kind, manifest)


def open_round(run: Run, number: int, kind: RoundKind, manifest: Manifest) -> None:
    """Open a round with every site that has joined; sites that were away are asked to join for the next one.

    A site that let the last round's deadline pass and has not been heard of since is not waited for again.
    """
    joining.offer_all(run, Enclave.objects.get(pk=run.enclave_id), manifest)
    here = joining.joined(run)
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
        for site in present:
            collecting.enrol_for(manifest)(round, site)
        for site in sorted({member.id for member in manifest.sites} - set(present)):
            joined = site in here
            why = {} if joined else _why_away(run, site)
            note(round, "site.left_out", site=_site(site), joined=joined, **why)
        apply(round, RoundState.OPEN, RoundState.COLLECTING)
    offer_jobs(round)


def offer_jobs(round: Round) -> None:
    """Offer each contributor its job, for the run's present enclave, with what the round continues.

    Repeating it changes nothing, unless the enclave or a client slice was started anew since: then the jobs
    that wait get the inputs that they need now.
    """
    run = round.run
    if tails.is_split(run):
        return  # what the sites contribute is here already
    issue = issuing.current(run)
    if issue is issuing.PENDING:
        return
    enclave = Enclave.objects.get(pk=run.enclave_id)
    inputs = {
        "enclave": enclave.pk,
        "epoch": enclave.epoch,
        "round": round.number,
        "previous": issuing.as_previous(issue),
    }
    here = issuing.able(run, issue)
    kind = JobKind.TRAIN if round.kind == RoundKind.TRAIN else JobKind.EVALUATE
    with transaction.atomic():
        contributions.take_back_lost(round, enclave.pk)
        open_ones = round.contributions.filter(
            state__in=(ContributionState.OFFERED, ContributionState.LEASED, ContributionState.WORKING)
        )
        for contribution in open_ones.filter(site_id__in=here):
            job = leases.offer(run, contribution.site_id, kind, enclave.pk, round=round, inputs=inputs)
            if job.inputs != inputs:
                leases.change_inputs(job, inputs)


def _silent(run: Run, number: int) -> set[str]:
    """The sites that were too late for the last round and have not been heard of since it was closed."""
    last = Round.objects.filter(run=run, number=number - 1).first()
    if last is None or last.closed_at is None:
        return set()
    gone = ("contribution.late", "countersignature.missing")
    late = last.contributions.filter(error_code__in=gone).select_related("site")
    return {row.site_id for row in late if row.site.last_seen is None or row.site.last_seen < last.closed_at}


def _why_away(run: Run, site: str) -> dict[str, Fact]:
    """Code and facts of the failure that keeps a site from joining the present enclave, if one does."""
    joins = Job.objects.filter(run=run, site=site, enclave=run.enclave_id, kind=JobKind.JOIN)
    job = joins.exclude(error_code="").first()
    return {**job.facts, "code": job.error_code} if job is not None else {}


def _site(site_id: str) -> Site:
    return Site.objects.get(pk=site_id)
