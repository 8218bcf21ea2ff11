"""The coordinator's own look at a server enclave. The sites do not rely on it: each appraises for itself."""

from __future__ import annotations

import time

import msgspec

from attestation.appraisal import Appraisal, require
from contracts.course import server_of
from contracts.evidence import Claims, EventLog, Evidence, Expected
from contracts.manifest import Manifest
from contracts.program_calls import EVIDENCE, Challenge
from contracts.refusal import Refusal
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.runs.models import Run
from enclave_jobs.supervisor import client
from federation.attestation import appraisals, collateral, gate, nonces, reviews
from federation.attestation.models import AppraisalRecord, StoredEvidence
from federation.attestation.references import root_for
from federation.frozen import manifest_of
from federation.sites.models import Site


def evidence_of(enclave: str, nonce: str, runtime: str) -> Evidence:
    """Fresh evidence of a server enclave for this nonce, with the collateral to judge it by.

    Raises: `collateral.none` or `collateral.stale`: then no key is released.
    """
    shown = client.call(enclave, EVIDENCE, Challenge(nonce))
    found = collateral.for_quote(shown.quote, root_for(runtime), int(time.time()))
    return Evidence(shown.quote, found, shown.claims, shown.event_log)


def kept_evidence(run: Run, signing_key: str) -> Evidence:
    """What a server enclave of the run, which may be gone, has shown us and we have accepted, with the
    collateral of now.

    Raises: `receipt.no_signer`, `collateral.none` or `collateral.stale`.
    """
    records = AppraisalRecord.objects.filter(run=run, site=None, verdict="accepted")
    for record in records.order_by("-pk"):
        if record.claims["signing_key"] == signing_key:
            quote = bytes(StoredEvidence.objects.get(pk=record.quote_sha256).data)
            root = root_for(manifest_of(run).runtime)
            found = collateral.for_quote(quote, root, int(time.time()))
            logged = msgspec.json.decode(record.log_entry.data)["body"].get("event_log")
            event_log = msgspec.convert(logged, EventLog | None)
            return Evidence(quote, found, msgspec.convert(record.claims, Claims), event_log)
    raise Refusal("receipt.no_signer")


def attest(run: Run, enclave: Enclave, manifest: Manifest) -> tuple[Appraisal, Evidence]:
    """Appraise for a nonce of our own. The verdict, accepted or not, is stored and logged before it is used.

    Raises: the code of the failed check, or `reference.lapsed`.
    """
    gate.require_in_force(manifest.policy)
    purpose = f"run:{run.pk}:{enclave.pk}"
    nonce = nonces.issue(purpose)
    evidence = evidence_of(enclave.pk, nonce, manifest.runtime)
    nonces.consume(nonce, purpose)
    expected = Expected(nonce, manifest.hash, server_of(manifest))
    appraisal = appraisals.judge(evidence, run=run, expected=expected, at=int(time.time()))
    require(appraisal)
    return appraisal, evidence


def clear_client(run: Run, site: Site, enclave: Enclave, manifest: Manifest, evidence: Evidence) -> None:
    """The coordinator's verdict on a site's client slice, and the entry that its keys are about to be
    released to: both in the log before the server enclave, which drew the nonce, decides for itself.

    Raises: `reference.lapsed`, `reference.under_review` or `reference.rejected` for a site that is
    quarantined, and the code of the failed check.
    """
    gate.require_in_force(manifest.policy)
    expected = Expected(evidence.claims.nonce, manifest.hash, "client_slice")
    appraisal = appraisals.judge(evidence, run=run, expected=expected, at=int(time.time()), site=site)
    if appraisal.code == reviews.UNKNOWN:
        reviews.require_not_quarantined(manifest.policy.root, "client_slice", appraisal.measurement)
    require(appraisal)
    gate.log_admission(
        manifest=manifest.hash,
        run=run.pk,
        site=site.pk,
        enclave=enclave.pk,
        signing_key=evidence.claims.signing_key,
        measurement=appraisal.measurement,
    )
