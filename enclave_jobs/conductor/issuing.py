"""Which sealed file holds the global parameters for the client slices that are admitted now.

The output of a round is sealed to the client slices of that moment. One that came later, or was started
again, gets the same parameters in another file, which the aggregator seals and signs for (`reissue`): once a
round for each site, and not after it was restored. Sites that go empty-handed wait for the next round; where
too few others are left for one, the run ends.
"""

from __future__ import annotations

from typing import Final

import msgspec
from django.db import transaction

from contracts.aggregator_calls import REISSUE
from contracts.canonical import digest
from contracts.previous import Previous
from contracts.program_calls import Nothing
from contracts.receipt_chain import parse_receipt
from contracts.refusal import Refusal
from contracts.reissue import SignedReissue
from contracts.sealed.container import FileRef
from enclave_jobs.blobs.models import Blob, BlobKind, Issue
from enclave_jobs.conductor.attendance import joined
from enclave_jobs.conductor.published import last_published
from enclave_jobs.enclaves.models import Admission
from enclave_jobs.runs.models import Round, Run
from enclave_jobs.runs.queries import counting
from enclave_jobs.supervisor import client
from federation.attestation import gate
from federation.frozen import manifest_of
from federation.sites.models import Site, SiteState

PENDING: Final = "pending"


def admitted(run: Run) -> list[str]:
    """The signing keys of the client slices that the present enclave has admitted for sites that have
    joined."""
    rows = Admission.objects.filter(enclave=run.enclave_id, site_id__in=joined(run))
    return sorted(rows.values_list("signing_key", flat=True))


def current(run: Run) -> Issue | str | None:
    """The issue that as many joined sites as may can open; None before the first round; PENDING while one is
    sealed."""
    last = last_published(run)
    if last is None or not last.next_blob:
        return None
    needed = admitted(run)
    for issue in Issue.objects.filter(round=last).select_related("round").order_by("-id"):
        if set(needed) <= set(issue.recipients):
            return issue
    return _again(run, last, needed)


def as_previous(issue: Issue | str | None) -> Previous | None:
    """`previous` of a job's inputs: the file, the receipt that stands for it, and the reissue if there is
    one."""
    if not isinstance(issue, Issue):
        return None
    reissue = None if issue.reissue is None else msgspec.convert(issue.reissue, SignedReissue)
    return Previous(issue.sha256, parse_receipt(issue.round.receipt or {}), reissue)


def _again(run: Run, last: Round, needed: list[str]) -> Issue | str:
    """Have the parameters sealed again. The key names who needs them, so a repeated step gets the same
    file.

    Raises: `reference.lapsed`.
    """
    gate.require_in_force(manifest_of(run).policy)
    before = Issue.objects.filter(round=last).select_related("round").order_by("-id").first()
    key = f"{run.enclave_id}/reissue/{last.number}/{digest(needed)[:16]}"
    try:
        done = client.once(run.enclave_id, REISSUE, Nothing(), run=run.pk, key=key, outputs=("next",))
    except Refusal as refusal:
        if refusal.code != "round.not_confirmed" or before is None:
            raise
        _require_holders(run, before)
        return before
    if done is None:
        return PENDING
    return keep(run, last, done.next, list(done.recipients), done.reissue)


def _require_holders(run: Run, issue: Issue) -> None:
    """A restored enclave hands its state to nobody who does not hold it. So holders must make a quorum: those
    that are here, and those that may still come with the client slice that they had.

    Raises: `run.state_unheld`: enclave and client slices were lost in one round, and no deadline would
    bring them back.
    """
    manifest, here = manifest_of(run), set(joined(run))
    members = Site.objects.filter(pk__in=[site.id for site in manifest.sites], state=SiteState.ACTIVE)
    away = set(members.values_list("pk", flat=True)) - here
    could, quorum = counting(run, sorted(able(run, issue) | away)), manifest.aggregation.quorum
    if could < quorum:
        raise Refusal("run.state_unheld", round=issue.round.number, found=could, quorum=quorum)


def able(run: Run, issue: Issue | str | None) -> set[str]:
    """The joined sites whose client slices can open this issue; before the first round, all."""
    here = set(joined(run))
    if not isinstance(issue, Issue):
        return here
    rows = Admission.objects.filter(
        enclave=run.enclave_id, site_id__in=here, signing_key__in=issue.recipients
    )
    return set(rows.values_list("site_id", flat=True))


def keep(
    run: Run, round: Round, sealed: FileRef, recipients: list[str], reissue: SignedReissue | None
) -> Issue:
    """Log the release of these parameters, then enter the issue and its blob; again changes nothing."""
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run.pk)
        known = Issue.objects.filter(round=round, sha256=sealed.sha256).first()
        if known is not None:
            return known
        holders = Admission.objects.filter(enclave=run.enclave_id, signing_key__in=recipients)
        gate.log_parameters(
            manifest=run.manifest_hash,
            run=run.pk,
            round=round.number,
            output=sealed.sha256,
            recipients=recipients,
            sites=sorted(holders.values_list("site_id", flat=True)),
        )
        Blob.objects.get_or_create(
            sha256=sealed.sha256,
            defaults={"bytes": sealed.bytes, "kind": BlobKind.NEXT, "run": run, "complete": True},
        )
        return Issue.objects.create(
            round=round,
            sha256=sealed.sha256,
            enclave=run.enclave_id,
            bytes=sealed.bytes,
            recipients=recipients,
            reissue=msgspec.to_builtins(reissue),
        )
