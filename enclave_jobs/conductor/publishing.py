"""Check what the enclave says that it did, log it, and publish it. The receipt is believed only as far as it
fits."""

from __future__ import annotations

import msgspec
from django.db import transaction
from django.utils import timezone

from contracts.course import server_of
from contracts.receipt_chain import course_fault
from contracts.receipts import Receipt, verify_receipt
from contracts.refusal import Refusal
from contracts.roster import parse_roster, roster_hash
from contracts.sealed.container import FileRef
from contracts.server_calls import RoundDone
from enclave_jobs import dispatch
from enclave_jobs.blobs.models import Blob, BlobKind
from enclave_jobs.conductor import issuing
from enclave_jobs.conductor.published import last_receipt, previous_hash
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.runs.models import Contribution, ContributionState, Round, RoundState, Run
from federation.attestation import gate, log
from federation.frozen import manifest_of
from federation.studies.events import apply, entered
from transparency_log.entry import RECEIPT


def publish(round: Round, answer: RoundDone) -> None:
    """Verify the receipt, append it to the log, enter the sealed files, and close the round, all or nothing.

    Raises: `receipt.invalid`, `sealing.bad_signature` or `receipt.mismatch`: then nothing is published and
    the run ends, for its enclave does not do what it was measured to do; `reference.lapsed` where a
    reference value was suspended since.
    """
    signed = answer.receipt
    verify_receipt(signed)
    check(round, answer)
    gate.require_in_force(manifest_of(round.run).policy)
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=round.run_id)
        following, state = answer.next, answer.state
        published = apply(
            round,
            RoundState.AGGREGATING,
            RoundState.PUBLISHED,
            facts={"contributions": len(signed.receipt.inputs)},
            next_blob=following.sha256 if following else "",
            state_blob=state.sha256 if state else "",
            metrics=answer.metrics,
            receipt=msgspec.to_builtins(signed),
            closed_at=timezone.now(),
        )
        if not published:
            return
        log.append(RECEIPT, signed, [log.Attachment("manifest", round.run.manifest.encode())])
        _accept(round, signed.receipt)
        if state:
            _enter(round, state, BlobKind.STATE)
        if following:
            recipients = sorted(count.holder for count in signed.receipt.instances if count.holder)
            issuing.keep(round.run, round, following, recipients, None)
        dispatch.after_commit(dispatch.ADVANCE, round.run_id)


def check(round: Round, answer: RoundDone) -> None:
    """The receipt speaks of this round of this run, of the roster that the sites signed, of the files that
    came with it, and is signed by an enclave of this run that the coordinator has appraised."""
    receipt, manifest = answer.receipt.receipt, manifest_of(round.run)
    roster = parse_roster(round.roster or {})
    following, state = answer.next, answer.state
    attested = set(Enclave.objects.filter(run=round.run).values_list("signing_key", flat=True))
    said = {
        "manifest": receipt.manifest == round.run.manifest_hash,
        "run": receipt.run == round.run_id,
        "round": receipt.round == round.number,
        "roster": receipt.roster == roster_hash(roster),
        "inputs": [(item.site, item.sha256) for item in receipt.inputs]
        == [(entry.site, entry.sha256) for entry in roster.inputs],
        "output": receipt.output == (following.sha256 if following else None),
        "state": receipt.state == (state.sha256 if state else None),
        "previous": receipt.previous == previous_hash(round),
        "program": receipt.program == server_of(manifest),
        "course": course_fault(manifest, last_receipt(round.run, before=round.number), receipt) is None,
        "signing key": answer.receipt.signing_key in attested - {""},
    }
    for field, fits in said.items():
        if not fits:
            raise Refusal("receipt.mismatch", field=field)


def _accept(round: Round, receipt: Receipt) -> None:
    """All that were listed, in as many questions to the database as one."""
    samples = {item.site: item.samples for item in receipt.inputs}
    rows = list(round.contributions.select_for_update().filter(state=ContributionState.SUBMITTED))
    for row in rows:
        row.state, row.samples = ContributionState.ACCEPTED, samples.get(row.site_id, 0)
    Contribution.objects.bulk_update(rows, ["state", "samples"])
    entered(rows, ContributionState.SUBMITTED)


def _enter(round: Round, sealed: FileRef, kind: BlobKind) -> None:
    Blob.objects.get_or_create(
        sha256=sealed.sha256,
        defaults={"bytes": sealed.bytes, "kind": kind, "run": round.run, "complete": True},
    )
