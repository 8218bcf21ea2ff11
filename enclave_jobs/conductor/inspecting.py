"""Let the enclave look into each contribution before the roster is fixed: a bad one costs its site the round,
and nobody else."""

from __future__ import annotations

from contracts.refusal import Refusal
from enclave_jobs.conductor import contributions, dispatch, tails
from enclave_jobs.supervisor import client
from federation.studies.models import Contribution, ContributionState, Round

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
    round is looked at again; the enclave's verdict is kept by the supervisor, so nothing is opened twice in
    vain."""
    split = tails.is_split(round.run)
    submitted = round.contributions.filter(state=ContributionState.SUBMITTED).order_by("site_id")
    for contribution in submitted:
        try:
            if not (tails.opened(round.run, contribution.site_id) if split else _good(round, contribution)):
                return False
        except Refusal as refusal:
            if refusal.code not in BAD and not refusal.code.startswith("features."):
                raise
            if split:
                tails.refused(round.run, contribution.site_id, refusal.code)
            contributions.refuse(contribution, refusal.code, dict(refusal.facts))
            dispatch.after_commit(dispatch.ADVANCE, round.run_id)
            return False
    return True


def _good(round: Round, contribution: Contribution) -> bool:
    """False while the enclave is still at it."""
    enclave = round.run.enclave_id
    args = {"round": round.number, "site": contribution.site_id, "sha256": contribution.blob}
    key = f"{enclave}/inspect/{round.number}/{contribution.blob[:32]}"
    return (
        client.once(enclave, "inspect", args, run=round.run_id, key=key, inputs=(contribution.blob,))
        is not None
    )
