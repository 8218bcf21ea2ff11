"""A whole run through real agents: enrolled, approved, trained behind a public front, one killed in between;
with the settings of docker-compose.yml, against Debian's own PostgreSQL and Redis, started natively."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.receipts import Scoring, receipt_hash
from contracts.roster import parse_roster
from site_agent.state import State
from tests.site_agent.trial import Trial
from tests.support.engines import binary, postgresql_server
from tests.support.installation import free_port, wait_for
from tests.support.object_storage import ObjectStorage, object_storage

pytestmark = [pytest.mark.timeout(900)]
NAMES = ("anna", "berta")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of an empty database in a cluster of its own."""
    with postgresql_server() as url:
        yield url


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    """Debian's redis-server with a password, on a free port."""
    port = free_port()
    server = subprocess.Popen(
        [binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", "sesame",
         "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield f"redis://:sesame@127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture
def storage() -> Iterator[ObjectStorage]:
    with object_storage() as running:
        running.create("sealed")
        yield running


@pytest.fixture
def trial(postgres: str, redis: str, storage: ObjectStorage, tmp_path: Path) -> Iterator[Trial]:
    engines = {
        "FEDSLICE_DATABASE": postgres,
        "FEDSLICE_REDIS": redis,
        "FEDSLICE_BLOBS": str(tmp_path / "blobs"),
        "FEDSLICE_STORAGE": storage.setting("sealed"),
        "FEDSLICE_STORAGE_FOR_SITES": storage.address,
        "FEDSLICE_SUPERVISOR_TOKEN": "a-token-from-the-environment-only",
        "FEDSLICE_SECRET_KEY": "a-key-from-the-environment-only-and-long-enough-for-django",
    }
    running = Trial(tmp_path, engines)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def test_on_postgresql_redis_and_s3_two_agents_train_and_a_killed_one_comes_back(
    trial: Trial, storage: ObjectStorage, tmp_path: Path
) -> None:
    """Anna's sealed files go straight into the storage, berta's by the coordinator."""
    for number, name in enumerate(NAMES):
        trial.enrol(name, train=12 + 4 * number)
    trial.agents["anna"].run("storage", storage.address)
    approved, run = trial.launched(rank=4, alpha=8, rounds=2, quorum=2, front=1)

    def published(number: int) -> bool:
        state = trial.rows("select state, error_code, facts from runs_run where id = %s", run)[0]
        assert state["state"] != "failed", (state, trial.log("anna"), trial.log("berta"))
        query = "select 1 from runs_round where run_id = %s and number = %s and state = 'published'"
        return bool(trial.rows(query, run, number))

    wait_for(lambda: published(1), 300, "round 1")
    berta = trial.agents["berta"]
    assert berta.daemon is not None
    os.kill(berta.daemon.pid, signal.SIGKILL)
    berta.daemon.wait()
    berta.start()
    ended = trial.ended(run, 400)
    assert ended["state"] == "finished", (ended, trial.log("anna"), trial.log("berta"))
    assert json.loads(ended["summary"])["receipts_verified"] == 4

    rounds = trial.rows("select * from runs_round where run_id = %s order by number", run)
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
    held = [{count.site: count.features for count in each.receipt.instances} for each in receipts]
    assert len(set(held[0].values())) == 2 and None not in held[0].values()
    assert all(each == held[0] for each in held)  # also of berta's second instance
    # Nothing went into the engines of a single machine.
    assert not list(trial.installation.folder.glob("*.sqlite3"))
    assert not (trial.installation.folder / "redis.conf").exists()
    assert not (tmp_path / "blobs").exists()
    sealed = {row["sha256"] for row in trial.rows("select sha256 from enclave_jobs_blob")}
    straight = {one.query["partNumber"] for one in storage.of_sites("PUT")}
    assert len(sealed) >= 6 and straight == {"1"}
    assert len(storage.of_sites("PUT")) >= 2 and len(storage.of_sites("GET")) >= 2
    frames = [one for one in storage.seen if one.method == "PUT" and "/frames/" in one.path]
    assert frames, "berta's"

    anna = trial.agents["anna"]
    assert anna.daemon is not None
    # Once its features are there, models are the enclave's matter: the agent brings no torch, which costs
    # seconds and 300 MiB.
    assert "libtorch" not in Path(f"/proc/{berta.daemon.pid}/maps").read_text()
    anna.daemon.terminate()
    assert anna.daemon.wait(30) == 0
    assert "has stopped" in trial.log("anna")
    assert not trial.installation.pids("client_slice --mailbox " + str(anna.folder))
