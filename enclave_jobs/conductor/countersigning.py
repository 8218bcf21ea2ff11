"""Fix who contributes to a round, and have each of them sign it once, before anything is aggregated.

A site that is lost between its contribution and its signature costs the round, not the run: the next round
opens without it (contracts/roster.py says why nothing less will do).
"""

from __future__ import annotations

from datetime import timedelta

import msgspec
from django.db import transaction
from django.utils import timezone

from contracts.jobs import Countersigning
from contracts.manifest import Manifest
from contracts.pooling import may_pool, sites_of
from contracts.refusal import Refusal
from contracts.roster import ROSTER_DOMAIN, Roster, RosterEntry, parse_roster, roster_hash
from contracts.signing import verify
from enclave_jobs import dispatch
from enclave_jobs.conductor import contributions
from enclave_jobs.conductor.published import previous_hash
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import Job, JobKind, JobState
from enclave_jobs.runs.models import Contribution, ContributionState, Round, RoundState, Run
from enclave_jobs.runs.queries import counting
from federation.attestation import log
from federation.frozen import manifest_of
from federation.studies.events import apply
from transparency_log.entry import ROSTER, ROSTER_FIXED


def fix_roster(round: Round, manifest: Manifest) -> None:
    """Close the round: who has submitted is in, who has not is dropped. The roster goes into the log, and
    each site on it is asked for its countersignature."""
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=round.run_id)
        submitted = round.contributions.filter(state=ContributionState.SUBMITTED).order_by("site_id")
        roster = Roster(
            manifest=manifest.hash,
            round=round.number,
            inputs=tuple(RosterEntry(row.site_id, row.blob) for row in submitted),
            previous=previous_hash(round),
            pooled=True,
        )
        if not _may_pool(round, roster, manifest):
            roster = msgspec.structs.replace(roster, pooled=False)
        fixed = apply(
            round,
            RoundState.COLLECTING,
            RoundState.COUNTERSIGNING,
            facts={"roster": roster_hash(roster), "sites": len(roster.inputs)},
            roster=msgspec.to_builtins(roster),
            deadline=timezone.now() + timedelta(seconds=manifest.aggregation.deadline_seconds),
            closed_at=timezone.now(),
        )
        if not fixed:
            return
        log.append(ROSTER_FIXED, {"roster": msgspec.to_builtins(roster)})
        for row in round.contributions.filter(state__in=contributions.PENDING):
            contributions.drop(row, "contribution.late")
        leases.expire(round=round)
        ask(round)


def _may_pool(round: Round, roster: Roster, manifest: Manifest) -> bool:
    """Whether the sites may be asked to let their scores be pooled: enough of them, as their agents judge. A
    first list of too few would be the one set of the run."""
    if counting(round.run, sites_of(roster)) < manifest.publication.sites:
        return False
    others = Round.objects.filter(run=round.run, roster__isnull=False).exclude(pk=round.pk)
    return may_pool(roster, (parse_roster(other.roster or {}) for other in others))


def ask(round: Round) -> None:
    """Ask each listed site that has not signed for its countersignature, on behalf of the present enclave;
    asking again changes nothing."""
    enclave = Enclave.objects.get(pk=round.run.enclave_id)
    inputs = Countersigning(enclave.pk, enclave.epoch, parse_roster(round.roster or {}))
    listed = round.contributions.filter(state=ContributionState.SUBMITTED, countersignature="")
    sites = dict.fromkeys(listed.values_list("site_id", flat=True))
    leases.offer(round.run, JobKind.COUNTERSIGN, enclave.pk, round=round, common=inputs, sites=sites)


def take(job: Job, signature: str) -> None:
    """A site's countersignature.

    Raises: `sealing.bad_signature` or `lease.late`.
    """
    if job.round is None or job.round.state != RoundState.COUNTERSIGNING:
        raise Refusal("lease.late")
    roster = parse_roster(job.round.roster or {})
    verify(manifest_of(job.run).site(job.site_id).public_key, ROSTER_DOMAIN, roster, signature)
    Contribution.objects.filter(round=job.round, site=job.site).update(countersignature=signature)


def advance(round: Round) -> None:
    """Aggregate when all have signed; give the round up when one will not, or has not by the deadline."""
    # Jobs first, signatures after: a site that signs between the two questions has signed by the second.
    jobs = Job.objects.filter(round=round, kind=JobKind.COUNTERSIGN)
    waited_for = jobs.filter(state__in=(JobState.WAITING, JobState.LEASED)).exists()
    refused = jobs.filter(state=JobState.FAILED).exists()
    # The roster says whose signatures are needed: a contribution that was taken away since does not make them
    # fewer.
    listed = {entry.site for entry in parse_roster(round.roster or {}).inputs}
    signed = round.contributions.filter(state=ContributionState.SUBMITTED).exclude(countersignature="")
    signatures = dict(signed.order_by("site_id").values_list("site_id", "countersignature"))
    if set(signatures) == listed:
        _aggregate(round, signatures)
    elif refused or not waited_for or timezone.now() >= (round.deadline or timezone.now()):
        give_up(round, "countersignature.missing")


def _aggregate(round: Round, signatures: dict[str, str]) -> None:
    with transaction.atomic():
        if not apply(
            round, RoundState.COUNTERSIGNING, RoundState.AGGREGATING, facts={"signed": len(signatures)}
        ):
            return
        manifest = log.Attachment("manifest", round.run.manifest.encode())
        log.append(ROSTER, {"roster": round.roster, "countersignatures": signatures}, [manifest])
        dispatch.after_commit(dispatch.ADVANCE, round.run_id)


def give_up(round: Round, code: str) -> None:
    """Fail the round, not the run: its number stays unused and the next round opens."""
    with transaction.atomic():
        if not apply(round, round.state, RoundState.FAILED, facts={"code": code}, closed_at=timezone.now()):
            return
        in_it = (*contributions.PENDING, ContributionState.SUBMITTED)
        for row in round.contributions.filter(state__in=in_it):
            unsigned = code == "countersignature.missing" and not row.countersignature
            contributions.drop(row, "countersignature.missing" if unsigned else "contribution.dropped")
        leases.withdraw(round=round)
        dispatch.after_commit(dispatch.ADVANCE, round.run_id)
