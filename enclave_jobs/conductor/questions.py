"""Ask a run's enclave about a round: under a key for each question, so that it is answered once; and have the
answers forgotten."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.program_calls import Call
from contracts.roster import parse_roster
from contracts.server_calls import ClosingArguments, RoundDone
from enclave_jobs.retention import KEPT_ROUNDS
from enclave_jobs.runs.models import Contribution, ContributionState, Round
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
        key=_closing(round.number),
        inputs=question.inputs,
        outputs=("next", "state"),
    )


def inspection_key(enclave: str, number: int, blob: str) -> str:
    """Of whether an enclave finds a contribution to this round good."""
    return f"{enclave}/inspect/{number}/{blob[:32]}"


def forget_older(round: Round) -> None:
    """This round is published: answers about the one KEPT_ROUNDS before it are in the database since long,
    also for a worker that stood still. So what a supervisor keeps of a run does not grow with its rounds."""
    number = round.number - KEPT_ROUNDS
    rows = Contribution.objects.filter(round__run=round.run_id, round__number=number)
    keys = [inspection_key(row.good_for, number, row.blob) for row in rows.exclude(good_for="")]
    if number > 0:
        client.forget(round.run_id, (_closing(number), *keys))


def _closing(number: int) -> str:
    return f"aggregate/{number}"
