"""Have the enclave aggregate a round, once, whoever asks and however often."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from contracts.refusal import Refusal
from enclave_jobs.conductor import (
    contributions,
    countersigning,
    dispatch,
    joining,
    publishing,
    restoring,
    tails,
)
from enclave_jobs.models import Enclave
from enclave_jobs.supervisor import client
from federation.attestation import release
from federation.studies.frozen import manifest_of
from federation.studies.models import (
    Contribution,
    ContributionState,
    Round,
    RoundKind,
    RoundState,
    Run,
    RunState,
)


def aggregate(round: Round) -> None:
    """Ask for the answer to this round's key. While the enclave is at work there is none, and the sweep asks
    again.

    The supervisor keeps the answer: a worker that was killed in the middle, or after the answer came and
    before it was written down, costs one repeated question. A contribution that the enclave refuses now (it
    was inspected before, so its site's client slice changed) costs the round.
    """
    if round.state != RoundState.AGGREGATING or round.run.state != RunState.RUNNING:
        return
    release.require_in_force(manifest_of(round.run).policy)
    try:
        answer = _ask(round)
    except Refusal as refusal:
        if refusal.code in ("features.not_loaded", "round.wrong_receipt") and tails.is_split(round.run):
            _open_again(round, refusal)
            return
        if refusal.code == "state.not_named":
            _hear_all(round.run)
            return
        if refusal.code != "round.bad_contribution":
            raise
        _blame(round, refusal)
        countersigning.give_up(round, refusal.code)
        return
    if answer is not None:
        publishing.publish(round, answer)


def _ask(round: Round) -> dict[str, Any] | None:
    listed = round.contributions.filter(state=ContributionState.SUBMITTED).order_by("site_id")
    split = tails.is_split(round.run)
    return client.once(
        round.run.enclave_id,
        ("train" if round.kind == RoundKind.TRAIN else "evaluate") if split else "aggregate",
        {
            "round": round.number,
            "roster": round.roster,
            "countersignatures": {row.site_id: row.countersignature for row in listed},
        },
        run=round.run_id,
        key=f"aggregate/{round.number}",
        inputs=() if split else [row.blob for row in listed],
        outputs=("next", "state"),
    )


def _open_again(round: Round, asked: Refusal) -> None:
    """The split server was started anew: it opens the listed sites' features (and the last state, where the
    sites hold its key), and the round, whose roster and signatures still hold, is trained from its beginning.
    A site that has not wrapped its keys for this enclave by now costs the round."""
    for row in round.contributions.filter(state=ContributionState.SUBMITTED).order_by("site_id"):
        try:
            if not tails.opened(round.run, row.site_id):
                return
        except Refusal as refusal:
            if not refusal.code.startswith("features."):
                raise
            contributions.refuse(row, refusal.code, dict(refusal.facts))
            countersigning.give_up(round, refusal.code)
            return
    restored = restoring.restore(round.run, Enclave.objects.get(pk=round.run.enclave_id))
    if restored == "waits for shares":
        countersigning.give_up(round, "shares.too_few")
        return
    if asked.code == "round.wrong_receipt" and restored == "before":
        # Another worker may have restored it since it was asked: what it says now counts.
        _ask(round)
    dispatch.after_commit(dispatch.AGGREGATE, round.pk)


def _hear_all(run: Run) -> None:
    """Sites name the last receipt with the keys of their features: those that are not in the round have told
    the present enclave nothing yet. The sweep asks it again."""
    for site in joining.joined(run):
        with suppress(Refusal):
            tails.opened(run, site)


def _blame(round: Round, refusal: Refusal) -> None:
    bad = Contribution.objects.filter(round=round, site_id=refusal.facts.get("site")).first()
    if bad is not None:
        contributions.refuse(bad, refusal.code, dict(refusal.facts))
