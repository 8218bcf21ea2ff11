"""The plaintext baseline as a whole run: real agents and enclaves, public data, its mark on every page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.site_agent.trial import Trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    running = Trial(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.mark.long
def test_a_baseline_on_public_data_runs_to_its_end_and_is_marked_wherever_it_is_shown(trial: Trial) -> None:
    for name in ("anna", "berta"):
        trial.enrol(name, 16, public=True)
    manifest, run = trial.launched(rank=4, alpha=8, rounds=1, quorum=2, placement="plaintext")
    row = trial.ended(run, 200)
    assert row["state"] == "finished", (row, trial.log("anna"), trial.log("berta"))
    summary = json.loads(row["summary"])
    assert (summary["rounds"], summary["sites"], summary["evaluated"]) == (1, 2, True)
    assert summary["run_manifest"] == manifest

    (site,) = trial.rows("select id from sites_site where name = 'anna'")
    shown = {
        "study": f"/studies/{row['study_id']}",
        "studies": "/studies",
        "run": f"/runs/{run}",
        "runs": "/runs",
        "receipt of the run": f"/sites/{site['id']}/receipts/{run}",
        "receipts": f"/sites/{site['id']}/receipts",
        "comparison": f"/compare?run={run}",
    }
    pages = trial.ask(verb="pages", paths=list(shown.values()))
    unmarked = [name for name, page in zip(shown, pages, strict=True) if "PLAINTEXT" not in page]
    assert unmarked == []
