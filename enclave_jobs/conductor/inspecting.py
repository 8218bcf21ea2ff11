"""Let the enclave look into each contribution before the roster is fixed: a bad one costs its site the round,
and nobody else."""

from __future__ import annotations

from contracts.refusal import Refusal
from enclave_jobs import dispatch
from enclave_jobs.conductor import contributions, methods
from enclave_jobs.runs.models import Contribution, ContributionState, Round

# The contribution's fault, or that of its way here; not the run's.
BAD = (
    "round.bad_contribution",
    "blob.unknown",
    "mailbox.hash_mismatch",
    "mailbox.too_large",
    "admission.not_admitted",
)


def done(round: Round) -> bool:
    """Whether every submitted contribution was found good. The first bad one is refused by code, and the
    round is looked at again. What this enclave has found good is noted, and not asked again."""
    enclave, good = round.run.enclave_id, list[int]()
    submitted = round.contributions.filter(state=ContributionState.SUBMITTED).order_by("site_id")
    try:
        return all(_is_good(contribution, good) for contribution in submitted.exclude(good_for=enclave))
    finally:
        if good:
            Contribution.objects.filter(pk__in=good).update(good_for=enclave)


def _is_good(contribution: Contribution, good: list[int]) -> bool:
    round = contribution.round
    method = methods.of_run(round.run)
    try:
        if not method.is_good(contribution):
            return False
    except Refusal as refusal:
        if refusal.code not in BAD and not refusal.code.startswith("features."):
            raise
        method.note_refusal(contribution, refusal.code)
        contributions.refuse(contribution, refusal.code, dict(refusal.facts))
        dispatch.after_commit(dispatch.ADVANCE, round.run_id)
        return False
    good.append(contribution.pk)
    return True
