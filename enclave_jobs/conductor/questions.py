"""Ask a run's enclave to close a round: under one key for each round, so that it is answered once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enclave_jobs.runs.models import ContributionState, Round
from enclave_jobs.supervisor import client


@dataclass(frozen=True)
class ClosingCall:
    """What closes a round inside the server enclave: its operation, and the blobs that it reads."""

    op: str
    inputs: tuple[str, ...]


def ask(round: Round, question: ClosingCall) -> dict[str, Any] | None:
    """The enclave's answer; None while it is at work."""
    listed = round.contributions.filter(state=ContributionState.SUBMITTED).order_by("site_id")
    return client.once(
        round.run.enclave_id,
        question.op,
        {
            "round": round.number,
            "roster": round.roster,
            "countersignatures": {row.site_id: row.countersignature for row in listed},
        },
        run=round.run_id,
        key=f"aggregate/{round.number}",
        inputs=question.inputs,
        outputs=("next", "state"),
    )
