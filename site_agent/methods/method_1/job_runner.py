"""The jobs of Method 1, and what this site does for each: join, train, evaluate, countersign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from contracts.agents_api.jobs import LeasedJob
from contracts.client_slice_calls import EVALUATE, TRAIN, RoundArguments
from contracts.jobs import (
    Contributing,
    Countersigning,
    CountersignResult,
    EvaluateResult,
    Joining,
    JoinResult,
    Result,
    TrainResult,
)
from contracts.previous import Previous
from contracts.progress import Progress
from contracts.refusal import Refusal
from contracts.sealed.container import FileRef
from enclave_host.mailbox import HostMailbox
from site_agent.blobs import download, upload
from site_agent.files import write_private
from site_agent.formatting import readable_bytes
from site_agent.leases import Lease, given
from site_agent.members import require_enough
from site_agent.methods.method_1.pads import PadMaker
from site_agent.methods.method_1.run_session import RunSession
from site_agent.proofs import require_roster
from site_agent.receipts import ReceiptBook
from site_agent.rosters import RosterBook
from site_agent.state import State
from site_agent.transport import Coordinator


class HandedInUpdate(Struct, frozen=True):
    """What this site made for a round: the sealed file, for the server enclave of this epoch."""

    epoch: int
    sha256: str
    bytes: int
    samples: int
    measures: dict[str, float] = {}


class JobRunner:
    """Does jobs of one run, one at a time."""

    def __init__(self, state: State, coordinator: Coordinator, session: RunSession) -> None:
        self._state = state
        self._coordinator = coordinator
        self._session = session
        self._mailbox = HostMailbox(session.mailbox)
        self._pads = PadMaker(session)
        self._receipts = ReceiptBook(state, session.manifest, coordinator)
        self._rosters = RosterBook(state.rosters, state.key)

    def do(self, job: LeasedJob, lease: Lease) -> Result:
        """Carry the job out.

        Raises: any code of the catalogue.
        """
        match job.kind:
            case "join":
                self._pads.wait(lambda news: _tell_progress(lease, news))
                self._session.ready(given(job, Joining).epoch, lease.tell)
                return JoinResult(job.lease)
            case "train" | "evaluate":
                return self._contribute(job, lease)
            case "countersign":
                return self._countersign(job, lease)
        raise Refusal("agent.unknown_job", kind=job.kind[:32])

    def prepare_next(self, job: LeasedJob) -> None:
        """After a job, in idle time: what the next round can be given ahead."""
        if job.kind in ("join", "train"):
            self._pads.start(1 if job.round is None else job.round + 1)

    def _contribute(self, job: LeasedJob, lease: Lease) -> TrainResult | EvaluateResult:
        """Fetch what the round continues, work on it, and bring the sealed result up.

        A result that was made before for this round and server enclave is brought up again: the client slice
        answers a round once.
        """
        asked = given(job, Contributing)
        round, epoch = asked.round, asked.epoch
        self._pads.wait(lambda news: _tell_progress(lease, news))
        restarted = not self._session.alive
        self._session.ready(epoch, lease.tell)
        previous = self._previous(asked, lease)
        made = next(
            (item for item in self._handed_in(round) if item.epoch == epoch and self._has(item)), None
        )
        if made is None:
            lease.tell("training" if job.kind == "train" else "evaluating", 0.0)
            try:
                result = self._session.ask(
                    TRAIN if job.kind == "train" else EVALUATE,
                    RoundArguments(round, previous),
                    lambda news: _tell_progress(lease, news),
                )
            except Refusal as refusal:
                self._session.failed(refusal)
                if restarted and refusal.code == "sealing.refused":
                    raise Refusal("agent.slice_restarted") from refusal
                raise
            update = result.update
            made = HandedInUpdate(epoch, update.sha256, update.bytes, result.samples, result.measures)
            self._remember(round, made)
        file = self._mailbox.collect(made.sha256)
        upload(self._coordinator, file, made.sha256, job.run, _transfer(lease, "sending the sealed result"))
        update, kind = (
            FileRef(made.sha256, made.bytes),
            TrainResult if job.kind == "train" else EvaluateResult,
        )
        return kind(job.lease, update, made.samples, made.measures)

    def _previous(self, asked: Contributing, lease: Lease) -> Previous | None:
        """Fetch what the round continues: it must be of the last receipt that this site knows of."""
        previous, round = asked.previous, asked.round
        if previous is None:
            self._receipts.catch_up()
            if self._receipts.last(before=round) is not None:
                fault = "the job continues nothing, but this site has seen a receipt of the run"
                raise Refusal("receipt.not_ours", round=round, fault=fault)
            return None
        self._receipts.require_latest(previous.receipt, before=round)
        sha256 = previous.sha256
        folder = self._session.folder / "incoming"
        for old in folder.glob("*"):
            # Of an older round; what has arrived of this one is not fetched again.
            if not old.name.startswith(sha256):
                old.unlink()
        incoming = folder / sha256
        download(self._coordinator, sha256, incoming, _transfer(lease, "fetching the sealed state"))
        self._mailbox.deliver(incoming, sha256)
        incoming.unlink()
        return previous

    def _countersign(self, job: LeasedJob, lease: Lease) -> CountersignResult:
        """Sign the roster of the round, once, if it is fit to be signed."""
        lease.tell("countersigning the roster")
        roster = given(job, Countersigning).roster
        round = roster.round
        if round != job.round:
            raise Refusal("roster.wrong_run")
        require_enough(self._state, self._session.manifest, [entry.site for entry in roster.inputs])
        require_roster(self._state, self._coordinator, self._session.manifest, roster)
        signature = self._rosters.sign(
            roster,
            self._session.manifest,
            site=self._state.config.site,
            own_inputs={item.sha256 for item in self._handed_in(round)},
            last_receipt=self._receipts.last_hash(before=round),
        )
        return CountersignResult(job.lease, signature)

    def _has(self, item: HandedInUpdate) -> bool:
        return (self._session.mailbox / "out" / item.sha256).is_file()

    def _handed_in(self, round: int) -> list[HandedInUpdate]:
        """All that was made here for this round, the newest first; it survives a restart of the agent."""
        try:
            return msgspec.json.decode(self._book(round).read_bytes(), type=list[HandedInUpdate])
        except FileNotFoundError:
            return []

    def _remember(self, round: int, made: HandedInUpdate) -> None:
        write_private(self._book(round), msgspec.json.encode([made, *self._handed_in(round)]))

    def _book(self, round: int) -> Path:
        return self._session.folder / "handed-in" / f"{round}.json"


def _transfer(lease: Lease, stage: str) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        detail = f"{readable_bytes(done)} of {readable_bytes(total)}"
        lease.tell(stage, done / total if total else None, detail)

    return tell


def _tell_progress(lease: Lease, news: Progress) -> None:
    """Pass the client slice's progress on, in words."""
    if news.of:
        lease.tell(news.stage, min(news.done / news.of, 1.0), _detail(news))
    else:
        lease.tell(news.stage)


def _detail(news: Progress) -> str:
    speed = news.rows_per_second or 0
    if news.bytes:
        batches = f"{news.batches} of {news.of_batches} batches"
        pace = f", {3600 * speed:,.0f} in a core-hour" if speed else ""
        return f"{news.done:,} of {news.of:,} tokens{pace}; {readable_bytes(news.bytes)} for {batches}"
    pace = f", {speed:.0f} rows a second" if speed >= 1 else ""
    return f"{news.done:,} of {news.of:,} rows{pace}"
