"""The coordinator's verdicts on evidence: the record, the raw evidence, and the entry in the log, all or
nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

import msgspec
from django.db import transaction

from attestation.appraisal import Appraisal, appraise
from attestation.quote import unpadded
from contracts.canonical import canonical
from contracts.evidence import Evidence, Expected
from federation.attestation import floors, log, reviews
from federation.attestation.models import AppraisalRecord
from federation.frozen import Bound, manifest_of
from federation.sites.models import Site
from transparency_log.entry import APPRAISAL, AppraisalBody

COORDINATOR = "coordinator"


class JudgedRun(Bound, Protocol):
    """The run whose enclave is judged, by the policy of its manifest."""

    @property
    def pk(self) -> str: ...


def judge(
    evidence: Evidence, *, run: JudgedRun, expected: Expected, at: int, site: Site | None = None
) -> Appraisal:
    """Appraise evidence by the policy of the run's manifest and by our floors; write the verdict down.

    1. Take the log's turn, so that no other verdict raises the floors between the look at them and ours.
    2. Appraise; accepted numbers become the floors.
    3. Store the record, the raw evidence and the log entry. A measurement that nobody knows opens a review.

    Accepted or refused, the verdict is in the log once this has returned; the caller releases only then.
    """
    with transaction.atomic():
        log.take_turn()
        policy = manifest_of(run).policy
        appraisal = appraise(evidence, policy, at=at, expected=expected, floors=floors.load())
        store(evidence, appraisal, run=run, site=site)
        if appraisal.code == reviews.UNKNOWN:
            reviews.seen(evidence, appraisal, policy, site)
    return appraisal


def store(
    evidence: Evidence,
    appraisal: Appraisal,
    *,
    run: JudgedRun,
    site: Site | None = None,
    relying_party: str = COORDINATOR,
) -> AppraisalRecord:
    """Write down a verdict, accepted or refused, with all that is needed to reach it again years later.

    The policy is the one of the run's manifest. `site` owns the judged enclave, None is the server's;
    `relying_party` judged. The caller releases keys or data only after the transaction around this has
    committed: what is not in the log does not happen.

    Raises: `log.invalid_entry`.
    """
    manifest = manifest_of(run)
    quote = log.Attachment("quote", unpadded(evidence.quote))
    collateral = log.Attachment("collateral", canonical(evidence.collateral))
    judged_by = log.Attachment("policy", canonical(manifest.policy))
    judged_for = log.Attachment("manifest", canonical(manifest))
    body = AppraisalBody(
        relying_party=relying_party,
        subject=site.pk if site else evidence.claims.program,
        claims=evidence.claims,
        event_log=evidence.event_log,
        quote=quote.sha256,
        collateral=collateral.sha256,
        policy=judged_by.sha256,
        manifest=judged_for.sha256,
        appraisal=msgspec.to_builtins(appraisal),
    )
    with transaction.atomic():
        if appraisal.verdict == "accepted":
            floors.rise(appraisal)
        return AppraisalRecord.objects.create(
            run_id=run.pk,
            site=site,
            program=evidence.claims.program,
            at=datetime.fromtimestamp(appraisal.at, UTC),
            verdict=appraisal.verdict,
            code=appraisal.code or "",
            tee=appraisal.tee or "",
            status=appraisal.status or "",
            advisories=list(appraisal.advisories),
            measurement=appraisal.measurement or "",
            development=appraisal.development,
            checks=msgspec.to_builtins(appraisal.checks),
            claims=msgspec.to_builtins(evidence.claims),
            quote_sha256=quote.sha256,
            collateral_sha256=collateral.sha256,
            log_entry=log.append(APPRAISAL, body, [quote, collateral, judged_by, judged_for]),
        )
