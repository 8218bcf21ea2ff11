"""Ask a run's enclave to close a round: under one key for each round, so that it is answered once."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.program_calls import Call
from contracts.roster import parse_roster
from contracts.server_calls import ClosingArguments, RoundDone
from enclave_jobs.runs.models import ContributionState, Round
from enclave_jobs.supervisor import client


@dataclass(frozen=True)
class ClosingCall:
    """What closes a round inside the server enclave: the operation, and the blobs that it reads."""

    call: Call[ClosingArguments, RoundDone]
    inputs: tuple[str, ...]


def ask(round: Round, question: ClosingCall) -> RoundDone | None:
    """The enclave's answer; None while it is at work."""
    listed = round.contributions.filter(state=ContributionState.SUBMITTED).order_by("site_id")
    signatures = {row.site_id: row.countersignature for row in listed}
    return client.once(
        round.run.enclave_id,
        question.call,
        ClosingArguments(round.number, parse_roster(round.roster or {}), signatures),
        run=round.run_id,
        key=f"aggregate/{round.number}",
        inputs=question.inputs,
        outputs=("next", "state"),
    )
