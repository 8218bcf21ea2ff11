"""A site's contribution to a round, as its job goes: leased, worked on, put back, refused, dropped."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from django.db.models import Q

from contracts.refusal import Fact
from enclave_jobs.jobs.models import Job, JobKind
from enclave_jobs.runs.models import Contribution, ContributionState, Round, RoundState, Run
from enclave_jobs.runs.transitions import CONTRIBUTION
from federation.studies.events import apply, note, note_sites
from federation.transitions import move

PENDING = (ContributionState.OFFERED, ContributionState.LEASED, ContributionState.WORKING)


def of_job(job: Job) -> Contribution | None:
    """The contribution that a training or evaluation job makes; None for other jobs."""
    if job.round_id is None or job.kind == JobKind.COUNTERSIGN:
        return None
    return (
        Contribution.objects.select_related("round__run")
        .filter(round_id=job.round_id, site_id=job.site_id)
        .first()
    )


def taken(job: Job) -> None:
    """The site's agent has leased the job."""
    contribution = of_job(job)
    if contribution is not None:
        apply(contribution, ContributionState.OFFERED, ContributionState.LEASED)


def working(job: Job) -> None:
    """The agent has shown progress."""
    contribution = of_job(job)
    if contribution is not None:
        apply(contribution, ContributionState.LEASED, ContributionState.WORKING)


def put_back(job: Job) -> None:
    """The lease has run out, or the agent asks for another try."""
    contribution = of_job(job)
    if contribution is not None and contribution.state in PENDING[1:]:
        apply(contribution, contribution.state, ContributionState.OFFERED)


def refuse(contribution: Contribution, code: str, facts: dict[str, Fact]) -> bool:
    """Put a contribution out of its round, with the code that says why."""
    return _out(contribution, ContributionState.REFUSED, code, facts)


def drop(contribution: Contribution, code: str) -> bool:
    """Close a round without this contribution; nobody is to blame."""
    return _out(contribution, ContributionState.DROPPED, code, {})


def _out(contribution: Contribution, state: ContributionState, code: str, facts: dict[str, Fact]) -> bool:
    with transaction.atomic():
        if not apply(contribution, contribution.state, state, facts={**facts, "code": code}, error_code=code):
            return False
        Contribution.objects.filter(pk=contribution.pk).update(facts=facts)
    return True


def enrol(round: Round, sites: list[str]) -> None:
    """Give sites their places in a round."""
    Contribution.objects.bulk_create(Contribution(round=round, site_id=site) for site in sites)


def let_in(round: Round, joined: list[str], enrol: Callable[[Round, list[str]], None] = enrol) -> int:
    """Give sites that have joined since the round was opened their place in it; how many."""
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=round.run_id)
        if not Round.objects.filter(pk=round.pk, state=RoundState.COLLECTING).exists():
            return 0
        missing = sorted(set(joined) - set(round.contributions.values_list("site_id", flat=True)))
        enrol(round, missing)
        note_sites(round, "site.let_in", {site: {} for site in missing})
    return len(missing)


def take_back_lost(round: Round, enclave: str) -> None:
    """After a restart: what was sealed to the lost enclave's keys can be opened by nobody and is made
    again."""
    stale = Job.objects.filter(round=round, kind__in=(JobKind.TRAIN, JobKind.EVALUATE)).filter(
        ~Q(enclave=enclave)
    )
    fresh = Job.objects.filter(round=round, enclave=enclave).values_list("site_id", flat=True)
    again = round.contributions.filter(
        state__in=(ContributionState.LEASED, ContributionState.WORKING, ContributionState.SUBMITTED),
        site_id__in=stale.values_list("site_id", flat=True),
    ).exclude(site_id__in=fresh)
    for contribution in again:
        was = contribution.state
        if move(
            contribution,
            CONTRIBUTION | {("submitted", "offered")},
            was,
            ContributionState.OFFERED,
            blob="",
            bytes=None,
            samples=None,
        ):
            note(contribution, "contribution.again", was=was)
