"""Evidence that nobody asked for, judged as an auditor does. No enclave loads this."""

from __future__ import annotations

from attestation.appraisal import SECOND_OPINION, Appraisal, judge
from attestation.checks import CHECKS
from attestation.checks.examination import Examination
from contracts.policy import Policy


def appraise_offline(
    quote: bytes,
    collateral: dict[str, str],
    at: int,
    policy: Policy | None = None,
    event_log: str | None = None,
) -> Appraisal:
    """Judge a quote that nobody asked for, as an auditor does, at Unix time `at`.

    Without a policy the question is only: is it genuine evidence of a TEE that is not in debug mode, under
    Intel's root? The TCB status is then reported and not judged, unless it is Revoked.
    """
    examination = Examination(quote, collateral, at, policy, event_log=event_log)
    return judge(examination, [*CHECKS, SECOND_OPINION])
