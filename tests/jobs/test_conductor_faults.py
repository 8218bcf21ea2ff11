"""A whole run, and faults in the middle of real ones: each costs time, none costs the run. Real enclaves, and
hospitals that speak plain HTTP."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

import pytest

from contracts.receipt_chain import parse_receipt, verify_chain
from tests.jobs.conftest import Consortium
from tests.support.installation import wait_for

pytestmark = pytest.mark.slow

WORKER = "celery --app federation worker"
SUPERVISOR = "manage.py supervisor"
AGGREGATOR = "enclave.programs.aggregator"
TWO = ("anna", "berta")


def once(action: Any) -> Any:
    """A hook that acts before the first job of its kind only."""
    done = threading.Event()

    def hook(job: dict[str, Any]) -> Any:
        if done.is_set():
            return None
        done.set()
        return action(job)

    return hook


def states(consortium: Consortium, run: str) -> list[tuple[int, str, str]]:
    return [(row["number"], row["kind"], row["state"]) for row in consortium.rounds(run)]


def receipts(consortium: Consortium, run: str) -> list[Any]:
    rows = [row for row in consortium.rounds(run) if row["state"] == "published"]
    return [parse_receipt(json.loads(row["receipt"])) for row in rows]


def finished(consortium: Consortium, run: str, seconds: float = 200) -> dict[str, Any]:
    ended = consortium.finished(run, seconds)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    verify_chain(receipts(consortium, run), manifest=ended["manifest_hash"])
    return ended


def test_three_hospitals_train_two_rounds_and_evaluate(consortium: Consortium) -> None:
    run = consortium.launch()
    consortium.start()
    ended = finished(consortium, run)
    summary = ended["summary"]
    assert (summary["sites"], summary["rounds"], summary["receipts_verified"]) == (3, 2, 4)
    assert summary["samples"] == 2 * (12 + 16 + 20)
    assert summary["evaluated"] and summary["development"] and summary["enclave_restarts"] == 0
    assert 0 <= summary["accuracy"] <= 1
    assert summary["run_manifest"] == ended["manifest_hash"]
    rounds = consortium.rounds(run)
    assert [(row["number"], row["kind"], row["state"]) for row in rounds] == [
        (1, "train", "published"),
        (2, "train", "published"),
        (3, "evaluate", "published"),
        (6, "test", "published"),
    ]
    sealed = sum(
        row["bytes"] for row in consortium.rows("select bytes from enclave_jobs_blob where kind = 'update'")
    )
    assert summary["bytes_up"] == sealed > 0
    assert summary["bytes_down"] > 0
    reported = consortium.rounds(run)[-1]["receipt"]
    tables = json.loads(reported)["receipt"]["metrics"]["test"]
    assert tables["rows"] == 24 and tables["cell"] == 5 and sum(tables["truth"]) > 0
    assert len(tables["reliability"][0]) == 10 and "bins" not in tables


@pytest.mark.long
@pytest.mark.timeout(900)
def test_what_the_supervisor_keeps_of_a_run_does_not_grow_with_its_rounds(consortium: Consortium) -> None:
    """Two looks into contributions and a closing a round, of three rounds and the one that is open."""
    answers = consortium.installation.folder / "supervisor" / "answers"
    kept = dict[int, int]()
    run = consortium.launch(TWO, rounds=8)

    def count(job: dict[str, Any]) -> None:
        kept[job["round"]] = len(list((answers / run).glob("*.json")))

    consortium.hospitals["anna"].hooks["train"] = count
    consortium.start()
    finished(consortium, run, 600)
    assert kept[3] >= 6 and set(kept) == set(range(1, 9))
    assert max(kept.values()) <= 3 * 4 + 2, kept


@pytest.mark.long
def test_a_worker_killed_during_collection_costs_time_not_the_run(consortium: Consortium) -> None:
    run = consortium.launch(TWO, rounds=1)
    killed: list[int] = []
    consortium.hospitals["berta"].hooks["train"] = once(lambda job: killed.extend(consortium.kill(WORKER)))
    consortium.start()
    ended = finished(consortium, run)
    assert killed
    assert states(consortium, run) == [
        (1, "train", "published"),
        (2, "evaluate", "published"),
        (5, "test", "published"),
    ]
    assert ended["summary"]["sites"] == 2 and ended["summary"]["enclave_restarts"] == 0


@pytest.mark.long
def test_a_worker_killed_during_aggregation_loses_nothing_and_nothing_is_done_twice(
    consortium: Consortium,
) -> None:
    """The enclave is held still (SIGSTOP) while it is asked to aggregate, so that the worker dies waiting."""
    run = consortium.launch(TWO, rounds=1)
    held: list[int] = []

    def hold(job: dict[str, Any]) -> None:
        held.extend(consortium.pids(AGGREGATOR))
        for pid in held:
            os.kill(pid, signal.SIGSTOP)

    consortium.hospitals["berta"].hooks["countersign"] = once(hold)
    consortium.start()
    try:
        consortium.until(run, 1, "aggregating")
        time.sleep(1.0)
        assert consortium.kill(WORKER)
        time.sleep(0.5)
        assert states(consortium, run) == [(1, "train", "aggregating")]
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)
    ended = finished(consortium, run)
    assert len(held) == 1
    assert states(consortium, run) == [
        (1, "train", "published"),
        (2, "evaluate", "published"),
        (5, "test", "published"),
    ]
    assert ended["summary"]["receipts_verified"] == 3 and ended["summary"]["enclave_restarts"] == 0
    sealed = consortium.rows("select * from enclave_jobs_blob where run_id = ? and kind = 'state'", run)
    assert len(sealed) == 3, "one state a round"


@pytest.mark.long
def test_a_site_that_is_away_is_left_out_at_the_deadline_and_takes_part_again_when_it_comes_back(
    consortium: Consortium,
) -> None:
    run = consortium.launch(rounds=2, deadline_seconds=40)
    clara, berta = consortium.hospitals["clara"], consortium.hospitals["berta"]
    away = threading.Event()

    def leave(job: dict[str, Any]) -> str | None:
        if job["round"] != 1:
            return None
        clara.stopping.set()
        away.set()
        return "leave"

    def welcome_back(job: dict[str, Any]) -> None:
        if job["round"] == 2 and clara.stopping.is_set():
            clara.start()
            time.sleep(2)

    clara.hooks["train"] = leave
    berta.hooks["train"] = welcome_back
    consortium.start()
    ended = finished(consortium, run)
    assert away.is_set()
    first, second, third = (consortium.contributions(run, number) for number in (1, 2, 3))
    assert (first["clara"]["state"], first["clara"]["error_code"]) == ("dropped", "contribution.late")
    assert {name for name, row in first.items() if row["state"] == "accepted"} == {"anna", "berta"}
    assert "clara" not in second
    assert third["clara"]["state"] == "accepted"
    assert ended["summary"]["evaluated"]


def test_a_killed_enclave_is_restored_attested_anew_and_the_sites_go_on_with_it(
    consortium: Consortium,
) -> None:
    run = consortium.launch(TWO, rounds=2)
    killed: list[int] = []

    def kill(job: dict[str, Any]) -> None:
        if job["round"] == 2 and not killed:
            # One site has handed in already: what it sealed is lost with the enclave's keys.
            wait_for(
                lambda: "submitted" in {row["state"] for row in consortium.contributions(run, 2).values()},
                60,
                "a first contribution",
            )
            killed.extend(consortium.kill(AGGREGATOR))

    consortium.hospitals["berta"].hooks["train"] = kill
    consortium.start()
    ended = finished(consortium, run)
    assert len(killed) == 1
    assert states(consortium, run)[1] == (2, "train", "published")
    assert ended["summary"]["enclave_restarts"] == 1 and ended["summary"]["sites"] == 2
    enclaves = consortium.rows(
        "select epoch, state from enclave_jobs_enclave where run_id = ? order by epoch", run
    )
    assert (enclaves[0]["state"], len(enclaves)) == ("lost", 2)
    assert [signed.receipt.restarts for signed in receipts(consortium, run)] == [0, 1, 1, 1]
    assert len({signed.signing_key for signed in receipts(consortium, run)}) == 2
    appraised = consortium.rows("select * from attestation_appraisalrecord where run_id = ?", run)
    # A step may run twice, and appraise twice: what counts is that both enclaves were, and nobody else.
    judged = {json.loads(row["claims"])["signing_key"] for row in appraised if row["program"] == "aggregator"}
    assert judged == {signed.signing_key for signed in receipts(consortium, run)}
    assert {row["verdict"] for row in appraised} == {"accepted"}
    assert "contribution.again" in consortium.events(run)


def test_a_run_whose_enclave_and_client_slices_are_lost_together_ends_and_waits_for_no_deadline(
    consortium: Consortium,
) -> None:
    """A restored enclave gives its state to no new client slice, and no old one is left."""
    run = consortium.launch(TWO, rounds=3, deadline_seconds=3600)
    killed: list[int] = []
    first = threading.Lock()

    def lose(job: dict[str, Any]) -> None:
        if job["round"] == 2 and first.acquire(blocking=False):
            for name in TWO:
                hospital = consortium.hospitals[name]
                if hospital.slice is not None:
                    hospital.slice.kill()
            killed.extend(consortium.kill(AGGREGATOR))

    for name in TWO:
        consortium.hospitals[name].hooks["train"] = lose
    consortium.start()
    ended = consortium.finished(run)
    assert len(killed) == 1
    assert (ended["state"], ended["error_code"]) == ("failed", "run.state_unheld")
    assert ended["facts"] == {"round": 1, "found": 0, "quorum": 2}
    assert states(consortium, run)[0] == (1, "train", "published")
    assert len(receipts(consortium, run)) == 1, "what was published stays"


@pytest.mark.long
def test_a_supervisor_killed_after_the_roster_was_signed_costs_that_round_only(
    consortium: Consortium,
) -> None:
    run = consortium.launch(TWO, rounds=2)
    killed: list[int] = []
    consortium.hospitals["anna"].hooks["countersign"] = once(
        lambda job: killed.extend(consortium.kill(SUPERVISOR))
    )
    consortium.start()
    ended = finished(consortium, run)
    assert killed
    assert [(kind, state) for _, kind, state in states(consortium, run)] == [
        ("train", "failed"),
        ("train", "published"),
        ("evaluate", "published"),
        ("test", "published"),
    ]
    summary = ended["summary"]
    assert (summary["rounds"], summary["rounds_failed"], summary["enclave_restarts"]) == (1, 1, 1)


def test_a_contribution_that_is_not_one_is_refused_and_the_others_go_on(consortium: Consortium) -> None:
    run = consortium.launch(TWO, rounds=1, quorum=1)
    berta = consortium.hospitals["berta"]

    def cheat(job: dict[str, Any]) -> str:
        data = b"not sealed by any enclave" * 40
        sha256 = berta.api.upload(data, job["run"])
        reported = {"update": {"sha256": sha256, "bytes": len(data)}, "samples": 7}
        berta.api.call("POST", f"jobs/{job['id']}/result", {"lease": job["lease"], **reported})
        return "leave"

    berta.hooks["train"] = cheat
    consortium.start()
    ended = finished(consortium, run)
    refused = consortium.contributions(run, 1)["berta"]
    assert (refused["state"], refused["error_code"]) == ("refused", "round.bad_contribution")
    assert consortium.contributions(run, 2)["berta"]["state"] == "accepted"
    assert ended["summary"]["samples"] == 12


@pytest.mark.long
def test_a_client_slice_that_died_is_admitted_again_and_gets_the_parameters_sealed_anew(
    consortium: Consortium,
) -> None:
    run = consortium.launch(TWO, rounds=2)
    anna = consortium.hospitals["anna"]

    def die(job: dict[str, Any]) -> None:
        if job["round"] == 2 and anna.lives == 1 and anna.slice is not None:
            anna.slice.kill()

    anna.lives = 0
    anna.hooks["train"] = die
    consortium.start()
    finished(consortium, run)
    assert anna.lives == 2
    assert consortium.contributions(run, 2)["anna"]["state"] == "accepted"
    assert any(row["reissue"] for row in consortium.rows("select reissue from enclave_jobs_issue"))


def test_a_run_below_its_quorum_ends_with_a_code(consortium: Consortium) -> None:
    run = consortium.launch(TWO, rounds=1, quorum=2)
    berta = consortium.hospitals["berta"]

    def give_up(job: dict[str, Any]) -> str:
        body = {"lease": job["lease"], "code": "model.file_changed", "facts": {"file": "config.json"}}
        berta.api.call("POST", f"jobs/{job['id']}/failure", body)
        return "leave"

    berta.hooks["train"] = give_up
    consortium.start()
    ended = consortium.finished(run)
    assert (ended["state"], ended["error_code"]) == ("failed", "run.no_quorum")
    assert ended["facts"] == {"round": 1, "found": 1, "quorum": 2}
    wait_for(lambda: not consortium.pids(AGGREGATOR), 30, "its enclave is stopped")
