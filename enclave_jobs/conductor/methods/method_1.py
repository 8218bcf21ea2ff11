"""Method 1: each site's client slice is admitted by the aggregator, trains each round, and is averaged.

What a site makes for a round is sealed to the aggregator of that moment: where that one is lost, it is made
again.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from contracts.aggregator_calls import AGGREGATE, INSPECT, InspectArguments
from contracts.jobs import Contributing
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from enclave_jobs.conductor import contributions, countersigning, issuing
from enclave_jobs.conductor.methods.interface import JoinJobs
from enclave_jobs.conductor.questions import ClosingCall, inspection_key
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import JobKind
from enclave_jobs.queues import ENCLAVE
from enclave_jobs.runs.models import Contribution, ContributionState, Round, RoundKind, RoundState, Run
from enclave_jobs.supervisor import client
from enclave_jobs.supervisor.protocol import Model
from federation.frozen import manifest_of

queue = ENCLAVE


def join_jobs(_run: Run, sites: list[str]) -> JoinJobs:
    """Have a client slice attested and admitted."""
    return {JobKind.JOIN: dict.fromkeys(sites)}


def least_present(manifest: Manifest) -> int:
    """A quorum."""
    return manifest.aggregation.quorum


def enrol(round: Round, sites: list[str]) -> None:
    """Their updates are still to come."""
    contributions.enrol(round, sites)


def offer_jobs(round: Round) -> None:
    """Offer each contributor its job, for the run's present enclave, with what the round continues.

    Repeating it changes nothing, unless the enclave or a client slice was started again since: then the jobs
    that wait get the inputs that they need now.
    """
    run = round.run
    issue = issuing.current(run)
    if issue is issuing.PENDING:
        return
    enclave = Enclave.objects.get(pk=run.enclave_id)
    inputs = Contributing(enclave.pk, enclave.epoch, round.number, issuing.as_previous(issue))
    here = issuing.able(run, issue)
    kind = JobKind.TRAIN if round.kind == RoundKind.TRAIN else JobKind.EVALUATE
    with transaction.atomic():
        contributions.take_back_lost(round, enclave.pk)
        open_ones = round.contributions.filter(
            state__in=(ContributionState.OFFERED, ContributionState.LEASED, ContributionState.WORKING)
        )
        asked = open_ones.filter(site_id__in=here).values_list("site_id", flat=True)
        leases.offer(run, kind, enclave.pk, round=round, common=inputs, sites=dict.fromkeys(asked))


def is_good(contribution: Contribution) -> bool:
    """The aggregator opens the update before the roster is fixed."""
    round = contribution.round
    enclave = round.run.enclave_id
    asked = InspectArguments(round.number, contribution.site_id, contribution.blob)
    key = inspection_key(enclave, round.number, contribution.blob)
    answer = client.once(enclave, INSPECT, asked, run=round.run_id, key=key, inputs=(contribution.blob,))
    return answer is not None


def note_refusal(_contribution: Contribution, _code: str) -> None:
    """A bad update costs its site the round, and no more."""


def ask_again(_round: Round) -> None:
    """A roster dies with the enclave that its updates were sealed to (`enclave_lost`)."""


def question(round: Round) -> ClosingCall:
    """Open the listed updates and average them."""
    listed = round.contributions.filter(state=ContributionState.SUBMITTED).order_by("site_id")
    return ClosingCall(AGGREGATE, tuple(row.blob for row in listed))


def answered(_round: Round, _refusal: Refusal) -> bool:
    """What an aggregator refuses stays refused."""
    return False


def prepare(_run: Run, _enclave: Enclave, _manifest: Manifest) -> bool:
    """An aggregator loads no model."""
    return True


def enclave_lost(round: Round) -> None:
    """A round that was collecting asks again for what was sealed to the lost enclave; one whose roster was
    fixed is given up, for no site signs a second roster of one round."""
    if round.state in (RoundState.COUNTERSIGNING, RoundState.AGGREGATING):
        countersigning.give_up(round, "run.reattest")
    elif round.state in (RoundState.OPEN, RoundState.COLLECTING):
        # The sites admit the new enclave first: the round's time begins again after that.
        seconds = manifest_of(round.run).aggregation.deadline_seconds
        Round.objects.filter(pk=round.pk).update(deadline=timezone.now() + timedelta(seconds=2 * seconds))


def may_release(_run: Run, _enclave: Enclave, _manifest: Manifest, _approved_by: Collection[str]) -> bool:
    """Release approvals name the receipt, and the enclave counts them."""
    return True


def release_files(manifest: Manifest) -> Model:
    """The aggregator never loaded the model: its configuration goes into an adapter's."""
    return Model(manifest.model.source, ("config.json",))
