"""What the site promises the others: one roster a round, one past, one log."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.manifest import Manifest
from contracts.pooling import may_pool
from contracts.receipts import NO_RECEIPT
from contracts.refusal import Refusal
from contracts.roster import ROSTER_DOMAIN, Roster, RosterEntry
from contracts.signing import SigningKey, verify
from site_agent import rosters
from site_agent.rosters import RosterBook
from site_agent.state import State
from site_agent.witness import LogWitness
from tests.site_agent.conftest import SITE, Line, Reply, Server
from tests.site_agent.coordinator_log import Log
from tests.site_agent.factories import PINNED, add_dataset, make_manifest

OWN, THEIRS = "a" * 64, "b" * 64


@pytest.fixture
def manifest(state: State, tmp_path: Path) -> Manifest:
    return make_manifest(state, add_dataset(state, tmp_path))


@pytest.fixture
def book(state: State) -> RosterBook:
    return RosterBook(state.rosters, state.key)


def roster(manifest: Manifest, /, *, inputs: dict[str, str] | None = None, **changes: object) -> Roster:
    entries = tuple(RosterEntry(site, sha) for site, sha in (inputs or {SITE: OWN, "site-2": THEIRS}).items())
    fields = {"manifest": manifest.hash, "round": 1, "inputs": entries, "previous": NO_RECEIPT}
    return Roster(**{"pooled": True, **fields, **changes})  # type: ignore[arg-type]


def sign(book: RosterBook, roster: Roster, manifest: Manifest, last: str = NO_RECEIPT) -> str:
    return book.sign(roster, manifest, site=SITE, own_inputs={OWN}, last_receipt=last)


def test_a_roster_is_signed_and_the_same_one_again_alike(
    book: RosterBook, state: State, manifest: Manifest
) -> None:
    signature = sign(book, roster(manifest), manifest)
    verify(state.key.public, ROSTER_DOMAIN, roster(manifest), signature)
    assert sign(RosterBook(state.rosters, state.key), roster(manifest), manifest) == signature


def test_a_second_roster_of_a_round_is_never_signed(book: RosterBook, manifest: Manifest) -> None:
    sign(book, roster(manifest), manifest)
    other = roster(manifest, inputs={SITE: OWN, "site-2": "c" * 64})
    with pytest.raises(Refusal) as caught:
        sign(book, other, manifest)
    assert caught.value.code == "roster.second"
    sign(book, roster(manifest, round=2, pooled=False), manifest)


def test_scores_are_pooled_with_those_of_one_set_of_sites_and_once_after_a_receipt(
    book: RosterBook, manifest: Manifest
) -> None:
    """A round may have been done of which nothing was shown."""
    later = {"round": 3, "previous": "d" * 64}
    sign(book, roster(manifest, pooled=False), manifest)
    sign(book, roster(manifest, round=2), manifest)
    sign(book, roster(manifest, **later), manifest, "d" * 64)
    for again in (
        roster(manifest, round=4),
        roster(manifest, round=4, previous="e" * 64, inputs={SITE: OWN}),
        roster(manifest, round=4, previous="e" * 64, inputs={SITE: OWN, "site-3": THEIRS}),
    ):
        assert not may_pool(again, [roster(manifest, round=2), roster(manifest, **later)])
        with pytest.raises(Refusal) as caught:
            book._pool(book._folder / manifest.hash, again)
        assert caught.value.code == "roster.another_pool"
    assert may_pool(roster(manifest, round=4, previous="e" * 64), [roster(manifest, **later)])


def test_of_two_rosters_at_once_one_is_signed(book: RosterBook, manifest: Manifest) -> None:
    outcomes: list[str] = []

    def attempt(theirs: str) -> None:
        try:
            outcomes.append(sign(book, roster(manifest, inputs={SITE: OWN, "site-2": theirs}), manifest))
        except Refusal as refusal:
            outcomes.append(refusal.code)

    threads = [threading.Thread(target=attempt, args=(f"{number:064x}",)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("roster.second") == 7


def test_the_book_is_on_the_disk_before_the_signature_leaves(
    book: RosterBook, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash at any moment before `sign` returns leaves the page, or no signature."""
    synced: list[bool] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(True), real(descriptor))[1])
    original: Callable[[Path, bytes], bool] = rosters.create_private

    def crash_after(path: Path, data: bytes) -> bool:
        original(path, data)
        if path.name != "1.json":
            return True
        assert len(synced) >= 2, "neither the page nor its name was brought to the disk"
        raise KeyboardInterrupt

    monkeypatch.setattr(rosters, "create_private", crash_after)
    with pytest.raises(KeyboardInterrupt):
        sign(book, roster(manifest), manifest)
    monkeypatch.undo()
    with pytest.raises(Refusal) as caught:
        sign(book, roster(manifest, inputs={SITE: OWN, "site-2": "c" * 64}), manifest)
    assert caught.value.code == "roster.second"


def test_a_page_that_cannot_be_read_is_another_roster(
    book: RosterBook, state: State, manifest: Manifest
) -> None:
    page = state.rosters / manifest.hash / "1.json"
    page.parent.mkdir(parents=True)
    page.write_bytes(b"")
    with pytest.raises(Refusal) as caught:
        sign(book, roster(manifest), manifest)
    assert caught.value.code == "roster.second"


def test_unfit_rosters_are_not_signed(book: RosterBook, state: State, manifest: Manifest) -> None:
    cases = [
        ("roster.wrong_run", roster(manifest, manifest="f" * 64)),
        ("roster.own_input", roster(manifest, inputs={SITE: "c" * 64, "site-2": THEIRS})),
        ("roster.own_input", roster(manifest, inputs={SITE: THEIRS, "site-2": OWN})),
        ("roster.wrong_members", roster(manifest, inputs={SITE: OWN})),
        ("roster.wrong_members", roster(manifest, inputs={SITE: OWN, "site-2": OWN})),
        ("roster.wrong_members", roster(manifest, inputs={"site-2": THEIRS, SITE: OWN})),
        ("roster.wrong_members", roster(manifest, inputs={SITE: OWN, "site-9": THEIRS})),
        ("roster.wrong_previous", roster(manifest, previous="d" * 64)),
    ]
    for code, unfit in cases:
        with pytest.raises(Refusal) as caught:
            sign(book, unfit, manifest)
        assert caught.value.code == code
    assert not state.rosters.exists(), "a refused roster was entered in the book"


def test_a_log_that_grows_is_followed(server: Server, line: Line, tmp_path: Path) -> None:
    log, witness = Log(server), LogWitness(tmp_path / "log", PINNED)
    for _ in range(3):
        assert witness.look(line.coordinator).size == len(log.entries)
        log.entries += [b"more", b"and more"]
    assert witness.look(line.coordinator).size == 9
    assert witness.seen() == LogWitness(tmp_path / "log", PINNED).seen()


@pytest.mark.parametrize("change", ["rewritten", "cut", "same size", "new key", "new origin"])
def test_a_fork_is_refused_for_good_and_its_proof_is_kept(
    server: Server, line: Line, tmp_path: Path, change: str
) -> None:
    log, witness = Log(server), LogWitness(tmp_path / "log", PINNED)
    witness.look(line.coordinator)
    honest = list(log.entries)
    match change:
        case "rewritten":
            log.entries = [b"one", b"other", b"three", b"four"]
        case "cut":
            log.entries = [b"one"]
        case "same size":
            log.entries = [b"one", b"two", b"tree"]
        case "new key":
            log.key = SigningKey.generate()
        case "new origin":
            log.origin = "elsewhere.example/log"
    with pytest.raises(Refusal) as caught:
        witness.look(line.coordinator)
    assert caught.value.code == "log.fork"
    proof = tmp_path / "log" / "fork-1.json"
    assert proof.exists() and "seen" in proof.read_text()
    log.entries = honest
    asked = len(server.requests)
    with pytest.raises(Refusal) as caught:
        LogWitness(tmp_path / "log", PINNED).look(line.coordinator)
    assert caught.value.code == "log.fork"
    assert len(server.requests) == asked
    assert witness.seen() is not None and witness.seen().size == 3  # type: ignore[union-attr]


def test_a_line_that_is_down_is_no_fork(server: Server, line: Line, tmp_path: Path) -> None:
    log, witness = Log(server), LogWitness(tmp_path / "log", PINNED)
    witness.look(line.coordinator)
    server.script(Reply(400, b"not ours"))
    with pytest.raises(Refusal) as caught:
        witness.look(line.coordinator, patience=0)
    assert caught.value.code == "agent.bad_answer"
    server.answer = log
    assert witness.look(line.coordinator).size == 3


def test_the_site_key_is_made_once_and_private(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from site_agent.state import State; "
    code += "print(State.open(Path(sys.argv[1])).key.public)"
    command = [sys.executable, "-c", code, str(tmp_path / "state")]
    together = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({process.communicate()[0] for process in together}) == 1
    for name in ("site.key",):
        assert (tmp_path / "state" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["site.key"]
