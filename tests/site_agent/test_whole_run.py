"""A whole run through the real agents: enrolled, approved, trained, killed in between, finished."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.receipts import Scoring, receipt_hash
from contracts.roster import parse_roster
from site_agent.state import State
from tests.site_agent.trial import Trial
from tests.support.installation import wait_for

pytestmark = pytest.mark.slow

NAMES = ("anna", "berta")


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    running = Trial(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def test_two_agents_train_and_a_killed_one_comes_back(trial: Trial) -> None:
    for number, name in enumerate(NAMES):
        trial.enrol(name, train=12 + 4 * number)
    approved, run = trial.launched(rank=4, alpha=8, rounds=3, quorum=2, front=1)

    def published(number: int) -> bool:
        state = trial.rows("select state, error_code, facts from studies_run where id = ?", run)[0]
        assert state["state"] != "failed", (state, trial.log("anna"), trial.log("berta"))
        query = "select 1 from studies_round where run_id = ? and number = ? and state = 'published'"
        return bool(trial.rows(query, run, number))

    wait_for(lambda: published(1), 120, "round 1")
    berta = trial.agents["berta"]
    assert berta.daemon is not None
    os.kill(berta.daemon.pid, signal.SIGKILL)
    berta.daemon.wait()
    berta.start()

    def over() -> bool:
        published(0)
        return trial.rows("select state from studies_run where id = ?", run)[0]["state"] == "finished"

    wait_for(over, 180, "the end of the run")
    rounds = trial.rows("select * from studies_round where run_id = ? order by number", run)
    receipts = [
        parse_receipt(json.loads(row["receipt"])) for row in rounds if row["receipt"] not in (None, "null")
    ]
    verify_chain(receipts, manifest=approved)
    assert receipts[-1].receipt.scoring == Scoring((), "too_few_sites")
    assert receipts[-1].receipt.metrics == {}

    for name in NAMES:
        state = State(trial.agents[name].folder)
        signed = sorted((state.rosters / approved).glob("*.json"))
        published_rosters = {
            row["number"]: parse_roster(json.loads(row["roster"])) for row in rounds if row["receipt"]
        }
        for page in signed:
            number = int(page.stem)
            if number in published_rosters:
                written = parse_roster(json.loads(page.read_bytes())["roster"])
                assert written == published_rosters[number]
        seen = parse_receipt((state.receipts / approved / "1.json").read_bytes())
        assert receipt_hash(seen.receipt) == receipt_hash(receipts[0].receipt)
        assert (state.log / "checkpoint").exists()
    assert "internal" not in trial.log("anna") + trial.log("berta")
    assert "agent.slice_restarted" in trial.log("berta")
    held = [{lived.site: lived.features for lived in each.receipt.lives} for each in receipts]
    assert len(set(held[0].values())) == 2 and None not in held[0].values()
    assert all(each == held[0] for each in held)  # also of berta's second life

    anna = trial.agents["anna"]
    assert anna.daemon is not None
    # Once its features are there, models are the enclave's matter: the agent brings no torch, which costs
    # seconds and 300 MiB.
    assert "libtorch" not in Path(f"/proc/{berta.daemon.pid}/maps").read_text()
    anna.daemon.terminate()
    assert anna.daemon.wait(30) == 0
    assert "has stopped" in trial.log("anna")
    assert not trial.installation.pids("client_slice --mailbox " + str(anna.folder))
