"""A masked run through real agents: one hospital's accelerator is honest, dies, and is started again; the
other's cheats."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.site_agent.trial import Trial
from tests.support.installation import REPOSITORY, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HOSTILE = shlex.join([sys.executable, str(REPOSITORY / "tests" / "support" / "hostile_accelerator.py")])


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    running = Trial(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def accelerators(trial: Trial, name: str) -> list[int]:
    """Accelerators that serve this hospital's client slice."""
    return trial.installation.pids(f"--weights {trial.folder / name}")


def contributions(trial: Trial, run: str) -> dict[tuple[str, int], dict[str, Any]]:
    query = (
        "select c.*, r.number, s.name from runs_contribution c join runs_round r on r.id = c.round_id "
        "join sites_site s on s.id = c.site_id where r.run_id = %s"
    )
    return {(row["name"], row["number"]): row for row in trial.rows(query, run)}


@pytest.mark.long
def test_a_wrong_product_stops_its_contribution_and_a_dead_accelerator_does_not(trial: Trial) -> None:
    trial.enrol("anna", train=16)
    trial.enrol("berta", train=16, FEDSLICE_ACCELERATOR=HOSTILE, PYTHONPATH=str(REPOSITORY))
    _, run = trial.launched(rank=4, alpha=8, rounds=2, quorum=1, placement="masked", adapter="prefix",
                                   prefix_length=4)  # fmt: skip
    first = wait_for(lambda: accelerators(trial, "anna"), 120, "anna's accelerator runs")
    assert isinstance(first, list)
    wait_for(lambda: "round 1" in trial.log("anna"), 120, "anna is in round 1")
    os.kill(first[0], signal.SIGKILL)
    row = trial.ended(run, 240)
    assert row["state"] == "finished", (row, trial.log("anna"), trial.log("berta"))

    made = contributions(trial, run)
    for number in (1, 2, 3):
        measures = json.loads(made["anna", number]["measures"])
        assert made["anna", number]["state"] == "accepted"
        assert measures["checks"] == measures["products"] > 0
        assert measures["peak_memory"] > measures["model_bytes"] > 0
        assert made["berta", number]["state"] == "refused"
    refused = made["berta", 1]
    facts = json.loads(refused["facts"])
    assert refused["error_code"] == "masking.wrong_product"
    assert facts["accelerator"] and facts["layer"] and facts["direction"] in ("forward", "backward")
    # The agent does not give the accelerator another chance before people have looked.
    assert made["berta", 2]["error_code"] == "accelerator.distrusted"
    assert accelerators(trial, "berta") == []

    query = "select * from audit_auditentry where action = 'contribution.refused' order by id"
    entry = trial.rows(query)[0]
    reported = json.loads(entry["facts"])
    assert entry["target"] == f"run:{run}"
    assert (reported["code"], reported["round"]) == ("masking.wrong_product", 1)
    assert reported["accelerator"] == facts["accelerator"] and reported["site"] == refused["site_id"]
    assert "internal" not in trial.log("anna") + trial.log("berta")

    assert accelerators(trial, "anna") != first
    anna = trial.agents["anna"]
    anna.stop()
    wait_for(lambda: not accelerators(trial, "anna"), 20, "the accelerator ends with its agent")
    assert not list(Path("/dev/shm").glob("fedslice-accelerator-*.new"))
