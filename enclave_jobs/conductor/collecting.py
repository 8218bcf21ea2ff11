"""Collect contributions: what agents say about their jobs, and when a round stops waiting."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from contracts.jobs import (
    CountersignResult,
    EvaluateResult,
    FeaturesResult,
    JoinResult,
    Result,
    ShareResult,
    TrainResult,
)
from contracts.refusal import Fact, Refusal
from enclave_jobs import dispatch
from enclave_jobs.blobs.models import Blob
from enclave_jobs.conductor import (
    contributions,
    countersigning,
    features,
    inspecting,
    joining,
    methods,
    shares,
)
from enclave_jobs.conductor.attendance import joined
from enclave_jobs.conductor.waiting import extended
from enclave_jobs.enclaves.models import Admission, Enclave
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import Job, JobKind
from enclave_jobs.runs.models import Contribution, ContributionState, Round, RoundState
from enclave_jobs.runs.queries import counting
from error_catalogue import CATALOGUE
from federation.audit.services import record
from federation.frozen import manifest_of
from federation.studies.events import apply, note

# What a fresh start of the same job can fix although nobody changes anything: the agent fetches new inputs.
FIXED_BY_NEW_INPUTS = {"sealing.refused", "round.wrong_receipt", "internal"}


def require_current_enclave(job: Job) -> None:
    """Raises: `run.reattest` where the run, or its served model, has another enclave than the one that
    the job was made for.
    """
    current = shares.is_wanted(job) if job.kind == JobKind.SHARE else job.enclave == job.run.enclave_id
    if not current:
        raise Refusal("run.reattest")


def take_result(job: Job, result: Result) -> None:
    """Take what a leased (or already done) job has brought, inside the caller's transaction.

    Raises: `run.not_admitted`, the `contribution.*` codes, `sealing.bad_signature`, and `lease.late` where
    the round is closed or another result was handed in before.
    """
    match result:
        case JoinResult():
            if not Admission.objects.filter(enclave=job.enclave, site=job.site).exists():
                raise Refusal("run.not_admitted")
            fields: dict[str, Fact] = {}
        case FeaturesResult():
            fields = {"index": result.index.hash, "keys": result.keys.sha256}
        case TrainResult() | EvaluateResult():
            fields = {"sha256": result.update.sha256, "bytes": result.update.bytes, "samples": result.samples}
        case CountersignResult():
            fields = {"countersignature": result.countersignature}
        case ShareResult():
            fields = {"share": result.share}
    if job.state != "leased":
        if job.result != fields:
            raise Refusal("lease.late")
        return
    require_current_enclave(job)
    match result:
        case JoinResult():
            joining.took_part(job)
        case FeaturesResult():
            features.take(job, result)
            joining.took_part(job)
        case TrainResult() | EvaluateResult():
            _submit(job, result)
        case CountersignResult():
            countersigning.take(job, result.countersignature)
        case ShareResult():
            pass
    leases.complete(job, fields)
    dispatch.after_commit(_next(job), job.run_id)


def take_failure(job: Job, code: str, facts: dict[str, Fact]) -> None:
    """The agent could not do it: another try where that can help, else the site is out of this round."""
    code = _own_code(code, facts)
    retry = CATALOGUE[code].retry or code in FIXED_BY_NEW_INPUTS
    again = leases.give_up(job, code, facts, retry=retry)
    facts_of_event: dict[str, Fact] = {**facts, "job": job.kind, "code": code, "again": again}
    note(job.round or job.run, "job.failed", site=job.site, **facts_of_event)
    contribution = contributions.of_job(job)
    if again:
        contributions.put_back(job)
    elif contribution is not None and contribution.state in contributions.PENDING:
        contributions.refuse(contribution, code, facts)
        facts_of_event = {**facts, "code": code, "site": job.site_id, "round": contribution.round.number}
        record(None, "contribution.refused", f"run:{job.run_id}", **facts_of_event)
    dispatch.after_commit(_next(job), job.run_id)


def _next(job: Job) -> str:
    """The task that goes on after this job."""
    if job.kind != JobKind.SHARE:
        return dispatch.ADVANCE
    serves = Enclave.objects.filter(pk=job.enclave, serves=True).exists()
    return dispatch.SERVE if serves else dispatch.RELEASE


def _own_code(code: str, facts: dict[str, Fact]) -> str:
    """An agent does not know the codes that only the coordinator has; here they have words."""
    found = facts.get("found")
    return found if code == "agent.refused" and isinstance(found, str) and found in CATALOGUE else code


def _submit(job: Job, result: TrainResult | EvaluateResult) -> None:
    contribution = contributions.of_job(job)
    if contribution is None or job.round is None or job.round.state != RoundState.COLLECTING:
        raise Refusal("lease.late")
    if contribution.state not in (ContributionState.LEASED, ContributionState.WORKING):
        raise Refusal("lease.late")
    sha256 = result.update.sha256
    blob = Blob.objects.filter(sha256=sha256, owner_site=job.site, run=job.run, complete=True).first()
    if blob is None:
        raise Refusal("contribution.not_uploaded", sha256=sha256)
    if blob.bytes != result.update.bytes:
        raise Refusal("contribution.size_mismatch", found=blob.bytes, claimed=result.update.bytes)
    if Contribution.objects.filter(round__run=job.run, blob=sha256).exclude(pk=contribution.pk).exists():
        raise Refusal("contribution.replayed")
    changes: dict[str, Any] = {
        "blob": sha256,
        "bytes": blob.bytes,
        "samples": result.samples,
        "measures": result.measures,
    }
    if not apply(contribution, contribution.state, ContributionState.SUBMITTED, **changes):
        raise Refusal("lease.late")


def advance(round: Round) -> None:
    """Close the round when nobody is waited for any more, or at its deadline with a quorum.

    Short of a quorum, sites that have joined since the round was opened are let in, and the wait is
    prolonged a few times.

    Raises: `run.no_quorum` when a quorum cannot come.
    """
    manifest = manifest_of(round.run)
    states = dict(round.contributions.values_list("site_id", "state"))
    here = [site for site, state in states.items() if state == ContributionState.SUBMITTED]
    pending = [site for site, state in states.items() if state in contributions.PENDING]
    submitted = counting(round.run, here)
    deadline = round.deadline or timezone.now()
    if pending and timezone.now() < deadline:
        return
    quorum = manifest.aggregation.quorum
    wait = timedelta(seconds=manifest.aggregation.deadline_seconds)
    if submitted < quorum:
        if contributions.let_in(round, joined(round.run), methods.of(manifest).enrol):
            dispatch.after_commit(dispatch.ADVANCE, round.run_id)
            return
        could = counting(round.run, [*here, *pending])
        if pending and could >= quorum and extended(round.run, round, deadline, wait):
            return
        raise Refusal("run.no_quorum", round=round.number, found=submitted, quorum=quorum)
    if inspecting.done(round):
        countersigning.fix_roster(round, manifest)
