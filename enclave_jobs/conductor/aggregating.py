"""Have the enclave aggregate a round, once, whoever asks and however often."""

from __future__ import annotations

from contracts.refusal import Refusal
from enclave_jobs.conductor import contributions, countersigning, methods, publishing, questions
from enclave_jobs.runs.models import Contribution, Round, RoundState, RunState
from federation.attestation import gate
from federation.frozen import manifest_of


def aggregate(round: Round) -> None:
    """Ask for the answer to this round's key. While the enclave is at work there is none, and the sweep asks
    again.

    The supervisor keeps the answer: a worker that was killed in the middle, or after the answer came and
    before it was written down, costs one repeated question. A contribution that the enclave refuses now (it
    was inspected before, so its site's client slice changed) costs the round.
    """
    if round.state != RoundState.AGGREGATING or round.run.state != RunState.RUNNING:
        return
    gate.require_in_force(manifest_of(round.run).policy)
    method = methods.of_run(round.run)
    try:
        answer = questions.ask(round, method.question(round))
    except Refusal as refusal:
        if method.answered(round, refusal):
            return
        if refusal.code != "round.bad_contribution":
            raise
        _blame(round, refusal)
        countersigning.give_up(round, refusal.code)
        return
    if answer is not None:
        publishing.publish(round, answer)
        questions.forget_older(round)


def _blame(round: Round, refusal: Refusal) -> None:
    bad = Contribution.objects.filter(round=round, site_id=refusal.facts.get("site")).first()
    if bad is not None:
        contributions.refuse(bad, refusal.code, dict(refusal.facts))
