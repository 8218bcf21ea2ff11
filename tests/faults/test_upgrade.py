"""An upgrade from the tagged version with data, in mid-study: PostgreSQL, Redis, each process alone, agents.

The run that is in its course goes on by what it is pinned to: the old supervisor's programs and the old
agents, under the new web process, worker, beat and database. A new run is of the new version throughout.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_real_engines import postgres as postgres
from tests.faults.test_real_engines import redis as redis
from tests.site_agent.trial import Trial
from tests.support import tagged
from tests.support.apart import Apart
from tests.support.installation import REPOSITORY, Installation, free_port, wait_for
from transparency_log.entry import EARLIER, READ

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(2400)]
NAMES = ("anna", "berta")
VERIFIED, INCOMPLETE = 0, 3
PLAN: dict[str, Any] = {"rank": 4, "alpha": 8, "quorum": 2}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return tagged.checkout(tmp_path / "old")


@pytest.fixture
def trial(old: Path, postgres: str, redis: str, tmp_path: Path) -> Iterator[Trial]:
    first = f"127.0.0.1:{free_port()}"
    engines = {
        "FEDSLICE_DATABASE": postgres,
        "FEDSLICE_REDIS": redis,
        "FEDSLICE_BLOBS": str(tmp_path / "blobs"),
        "FEDSLICE_SUPERVISOR_TOKEN": "a-token-from-the-environment-only",
        "FEDSLICE_SECRET_KEY": "a-key-from-the-environment-only-and-long-enough-for-django",
        "FEDSLICE_SUPERVISORS": first,
    }
    place = Apart(tmp_path / "state", repository=old, engines=engines)
    running = Trial(tmp_path, engines, place)
    place.manage("migrate", "-v", "0")
    place.supervise("supervisor-1", place.folder, first)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def judge(repository: Path, place: Installation, bundle: Path) -> tuple[int, str]:
    """What the verifier of a version says of a bundle."""
    command = [sys.executable, "manage.py", "verify_bundle", str(bundle)]
    done = subprocess.run(
        command, cwd=repository, env=place.environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def published(trial: Trial, run: str, number: int) -> bool:
    (row,) = trial.rows("select state, error_code, facts from runs_run where id = %s", run)
    assert row["state"] not in ("failed", "finished"), (row, trial.log("anna"), trial.log("berta"))
    query = "select 1 from runs_round where run_id = %s and number = %s and state = 'published'"
    return bool(trial.rows(query, run, number))


def test_a_run_goes_on_through_an_upgrade_and_the_next_is_of_the_new_version(
    trial: Trial, old: Path, tmp_path: Path
) -> None:
    place = trial.installation
    assert isinstance(place, Apart)
    first = place.engines["FEDSLICE_SUPERVISORS"]
    second = f"127.0.0.1:{free_port()}"
    for number, name in enumerate(NAMES):
        trial.enrol(name, train=12 + 4 * number)
    _, run = trial.launched(**PLAN, rounds=6)
    wait_for(lambda: published(trial, run, 1), 300, "round 1")

    place.end("beat", "worker", "web")
    place.becomes(REPOSITORY)
    place.engines["FEDSLICE_SUPERVISORS"] = f"{first},{second}"
    place.manage("migrate", "-v", "0")
    place.supervise("supervisor-2", tmp_path / "supervisor-2", second)
    place.start()
    place.manage("drain_supervisor", first, "--no-wait")
    place.manage("register_measurements")
    assert not published(trial, run, 6), "it was in its course"

    ended = trial.ended(run, 600)
    assert ended["state"] == "finished", (ended, trial.log("anna"), trial.log("berta"))
    summary = json.loads(ended["summary"])
    assert (summary["rounds"], summary["enclave_restarts"]) == (6, 0)
    query = "select supervisor from enclave_jobs_enclave where run_id = %s"
    assert [row["supervisor"] for row in trial.rows(query, run)] == [first]
    assert "it can be stopped" in place.manage("drain_supervisor", first)

    bundle = tmp_path / "old.zip"
    place.manage("export_bundle", str(bundle))
    # Entries of the run's first half are of the old version's format, those of the second of the one in which
    # the new version writes of a run that uses nothing later.
    code, words = judge(old, place, bundle)
    assert code == (VERIFIED if tagged.FORMAT == EARLIER else INCOMPLETE), words
    assert code == VERIFIED or f"format {EARLIER}" in words
    code, words = judge(REPOSITORY, place, bundle)
    assert code == (VERIFIED if tagged.FORMAT in READ else INCOMPLETE), words
    assert code == VERIFIED or f"format {tagged.FORMAT}" in words

    # The old supervisor goes; then the hospitals' agents follow, each over its own folder.
    place.end("supervisor-1")
    place.engines["FEDSLICE_SUPERVISORS"] = second
    place.end("beat", "worker", "web")
    place.start()
    place.manage("register_measurements", "--replace")
    for name in NAMES:
        trial.agents[name].stop()
        trial.agents[name] = replace(trial.agents[name], repository=REPOSITORY, daemon=None)
    _, later = trial.launched(**PLAN, rounds=2)
    ended = trial.ended(later, 600)
    assert ended["state"] == "finished", (ended, trial.log("anna"), trial.log("berta"))
    assert [row["supervisor"] for row in trial.rows(query, later)] == [second]
