"""Method 2: each site brings the sealed features of its rows once, and the split server trains the tail.

A site's part in a round needs no work of the site: its shards lie here, and its keys are wrapped for the
present enclave. So its contribution is there as soon as a round opens, and what the roster names, the hash of
the site's index of shards, outlives every enclave.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta

import msgspec
from django.utils import timezone

from contracts.course import naming_sites
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.split_server_calls import EVALUATE, PREPARE, TRAIN, PrepareTailArguments
from enclave_jobs import dispatch
from enclave_jobs.conductor import contributions, countersigning, features, questions, restoring, shares
from enclave_jobs.conductor.attendance import joined
from enclave_jobs.conductor.methods.interface import JoinJobs
from enclave_jobs.conductor.questions import ClosingCall
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.jobs.models import JobKind
from enclave_jobs.queues import TAIL
from enclave_jobs.runs.models import Contribution, ContributionState, Round, RoundKind, RoundState, Run
from enclave_jobs.supervisor import client
from enclave_jobs.supervisor.protocol import Model
from federation.frozen import manifest_of
from federation.studies.events import note
from federation.studies.models import Event

queue = TAIL


def join_jobs(run: Run, sites: list[str]) -> JoinJobs:
    """Bring the features, or only wrap their keys; with each site's own share of the state's key, if there is
    one."""
    jobs: JoinJobs = {JobKind.FEATURES: {}, JobKind.REWRAP: {}}
    here, inputs = features.brought(run, sites), restoring.escrows(run, sites)
    for site in sites:
        jobs[JobKind.REWRAP if site in here else JobKind.FEATURES][site] = inputs[site]
    return jobs


def least_present(manifest: Manifest) -> int:
    """Fewer could not name what the enclave goes on from."""
    return max(manifest.aggregation.quorum, naming_sites(manifest))


def enrol(round: Round, sites: list[str]) -> None:
    """What they contribute is there."""
    features.enrol(round, sites)


def offer_jobs(_round: Round) -> None:
    """What the sites contribute is here already."""


def is_good(contribution: Contribution) -> bool:
    """The split server opens the site's shards."""
    return features.opened(contribution.round.run, contribution.site_id)


def note_refusal(contribution: Contribution, code: str) -> None:
    """The site is out until it brings other features."""
    features.refused(contribution.round.run, contribution.site_id, code)


def ask_again(round: Round) -> None:
    """The roster still holds after a restart: it is signed on behalf of the new enclave."""
    countersigning.ask(round)


def question(round: Round) -> ClosingCall:
    """Train on the listed sites' shards, which the enclave has opened, or evaluate on them."""
    return ClosingCall(TRAIN if round.kind == RoundKind.TRAIN else EVALUATE, ())


def answered(round: Round, refusal: Refusal) -> bool:
    """The split server may have been started again, and lack features, the state or the sites' word on it."""
    match refusal.code:
        case "features.not_loaded" | "round.wrong_receipt":
            _open_again(round, refusal)
        case "state.not_named":
            _hear_all(round.run)
        case _:
            return False
    return True


def prepare(run: Run, enclave: Enclave, manifest: Manifest) -> bool:
    """Load the tail. What is tuned goes on the timeline, once a run."""
    size = client.once(
        enclave.pk,
        PREPARE,
        PrepareTailArguments("model"),
        run=run.pk,
        key=f"{enclave.pk}/prepare",
        inputs=[start] if (start := manifest.model.start) else [],
        model=Model(manifest.model.source, tuple(manifest.model.files)),
    )
    if size is None:
        return False
    if not Event.objects.filter(run=run, kind="tail.prepared").exists():
        note(run, "tail.prepared", **msgspec.to_builtins(size))
    return True


def enclave_lost(round: Round) -> None:
    """The roster names shards that outlive every enclave: the round goes on with the roster that it has, and
    its time begins again, for the sites admit the new enclave first."""
    if round.state in (RoundState.OPEN, RoundState.COLLECTING, RoundState.COUNTERSIGNING):
        seconds = manifest_of(round.run).aggregation.deadline_seconds
        Round.objects.filter(pk=round.pk).update(deadline=timezone.now() + timedelta(seconds=2 * seconds))


def may_release(run: Run, enclave: Enclave, manifest: Manifest, approved_by: Collection[str]) -> bool:
    """Once enough sites have named the last receipt, and handed back their shares where they hold some."""
    return shares.restored(run, enclave, manifest, approved_by)


def release_files(_manifest: Manifest) -> None:
    """The split server has loaded the model."""


def _open_again(round: Round, asked: Refusal) -> None:
    """The split server was started again: it opens the listed sites' features (and the last state, where the
    sites hold its key), and the round, whose roster and signatures still hold, is trained from its beginning.
    A site that has not wrapped its keys for this enclave by now costs the round."""
    for row in round.contributions.filter(state=ContributionState.SUBMITTED).order_by("site_id"):
        try:
            if not features.opened(round.run, row.site_id):
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
        questions.ask(round, question(round))
    dispatch.after_commit(dispatch.ADVANCE, round.run_id)


def _hear_all(run: Run) -> None:
    """Sites name the last receipt with the keys of their features: those that are not in the round have told
    the present enclave nothing yet. The sweep asks it again."""
    for site in joined(run):
        with suppress(Refusal):
            features.opened(run, site)
