"""The daemon against a coordinator that asks for what it must not get."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.agents_api.jobs import LeasedJob
from contracts.canonical import canonical
from contracts.jobs import JoinResult
from contracts.manifest import Manifest
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.refusal import Refusal
from site_agent import leases
from site_agent.approvals import Approved
from site_agent.daemon import Daemon
from site_agent.files import write_private
from site_agent.members import confirm
from site_agent.methods.method_1.job_runner import JobRunner
from site_agent.state import State
from tests.site_agent.conftest import SITE, Reply, Request, Server
from tests.site_agent.coordinator_log import Log
from tests.site_agent.factories import add_dataset, make_manifest, make_receipt
from tests.support.approvals import approve, members


class Coordinator:
    """Leases the jobs that it is given, one after the other, and answers what else a daemon asks."""

    def __init__(self, server: Server, *jobs: dict[str, Any]) -> None:
        self.server = server
        self.jobs = list(jobs)
        self.log = Log(server)
        self.other: Callable[[Request], Reply | None] = lambda request: None
        server.answer = self

    def __call__(self, request: Request) -> Reply:
        special = self.other(request)
        if special is not None:
            return special
        if request.path.startswith("log/"):
            return self.log(request)
        if request.path == "heartbeat":
            return Reply(body={"server_time": int(time.time()), "state": "active"})
        if request.path == "lease":
            return Reply(body=self.jobs.pop(0)) if self.jobs else Reply(204, b"", {"Retry-After": "0"})
        if request.path.endswith("/progress"):
            return Reply(body={"deadline": int(time.time()) + 60})
        return Reply(body={"state": "done"})

    def said(self, end: str) -> list[Any]:
        return [request.json for request in self.server.requests if request.path.endswith(end)]


FOR_ENCLAVE = {"enclave": "enclave-1", "epoch": 1}


def job(manifest: Manifest, kind: str = "join", round: int | None = None, **changes: Any) -> dict[str, Any]:
    fields = {
        "id": "j1",
        "kind": kind,
        "lease": 1,
        "deadline": int(time.time()) + 60,
        "run": manifest.run,
        "manifest_hash": manifest.hash,
        "round": round,
        "inputs": FOR_ENCLAVE,
    }
    return {**fields, **changes}


@pytest.fixture
def manifest(state: State, server: Server, quick: None, tmp_path: Path) -> Manifest:
    state.save(msgspec.structs.replace(state.config, coordinator=server.url))
    return make_manifest(state, add_dataset(state, tmp_path))


@pytest.fixture
def approved(state: State, manifest: Manifest) -> Manifest:
    given = approve(manifest.hash, SITE, state.key, members(manifest))
    confirm(state, manifest.sites)
    page = Approved(canonical(manifest).decode(), manifest.hash, given.confirmed, given.signature, 1)
    write_private(state.approved / f"{manifest.hash}.json", canonical(page))
    return manifest


def work(state: State, **options: Any) -> list[str]:
    said: list[str] = []
    Daemon(state, said.append).run(**{"until_idle": 0.0, **options})
    return said


def asked_of_run(server: Server) -> list[str]:
    return [request.path for request in server.requests if request.path.startswith(("runs/", "blobs"))]


def test_a_manifest_that_was_not_approved_here_never_runs(
    state: State, server: Server, manifest: Manifest
) -> None:
    coordinator = Coordinator(server, job(manifest))
    said = work(state)
    assert [failure["code"] for failure in coordinator.said("/failure")] == ["run.not_approved_here"]
    assert asked_of_run(server) == []
    assert not state.runs.exists()
    assert any("has not approved" in line and "site_agent approve" in line for line in said)


def test_a_job_for_another_run_than_the_approved_is_refused(
    state: State, server: Server, approved: Manifest
) -> None:
    coordinator = Coordinator(server, job(approved, run="run-9"))
    work(state)
    assert [failure["code"] for failure in coordinator.said("/failure")] == ["run.wrong_manifest"]
    assert asked_of_run(server) == []


def test_another_manifest_than_the_approved_is_never_bound(
    state: State, server: Server, approved: Manifest
) -> None:
    coordinator = Coordinator(server, job(approved))
    text = canonical(approved).decode().replace('"rounds":3', '"rounds":9')
    answer = Reply(body={"manifest": text, "approvals": {}})
    coordinator.other = lambda request: answer if request.path == "runs/run-1/manifest" else None
    work(state)
    assert [failure["code"] for failure in coordinator.said("/failure")] == ["run.wrong_manifest"]


def test_an_unknown_job_and_unfit_inputs_have_their_codes(
    state: State, server: Server, approved: Manifest
) -> None:
    coordinator = Coordinator(
        server,
        job(approved, "predict"),
        job(approved, "train", 1, inputs={}),
        job(approved, "train", None),
        job(approved, "countersign", 1, inputs={**FOR_ENCLAVE, "roster": {"round": 1}}),
    )
    work(state)
    codes = [failure["code"] for failure in coordinator.said("/failure")]
    assert codes == ["agent.unknown_job", *["agent.bad_inputs"] * 3]


def test_a_roster_without_a_contribution_of_ours_is_not_signed(
    state: State, server: Server, approved: Manifest
) -> None:
    entries = [{"site": SITE, "sha256": "a" * 64}, {"site": "site-2", "sha256": "b" * 64}]
    roster = {
        "manifest": approved.hash,
        "round": 1,
        "inputs": entries,
        "previous": NO_RECEIPT,
        "pooled": True,
    }
    coordinator = Coordinator(
        server, job(approved, "countersign", 1, inputs={**FOR_ENCLAVE, "roster": roster})
    )
    coordinator.log.add("roster.fixed", {"roster": roster})
    work(state)
    assert [failure["code"] for failure in coordinator.said("/failure")] == ["roster.own_input"]
    assert coordinator.said("/result") == []


def test_a_countersignature_builds_on_the_last_receipt_seen(
    state: State, server: Server, approved: Manifest
) -> None:
    """What was handed in is on the disk, so a restarted agent signs too; a set-back server is caught."""
    first = make_receipt(approved, 1)
    write_private(state.receipts / approved.hash / "1.json", canonical(first))
    handed = [{"epoch": 1, "sha256": "a" * 64, "bytes": 1, "samples": 1}]
    write_private(state.runs / approved.hash / "handed-in" / "2.json", canonical(handed))
    entries = [{"site": SITE, "sha256": "a" * 64}, {"site": "site-2", "sha256": "b" * 64}]

    def roster(previous: str) -> dict[str, Any]:
        reported = {"manifest": approved.hash, "round": 2, "inputs": entries, "previous": previous}
        return {**FOR_ENCLAVE, "roster": {**reported, "pooled": True}}

    coordinator = Coordinator(
        server,
        job(approved, "countersign", 2, inputs=roster(NO_RECEIPT)),
        job(approved, "countersign", 2, inputs=roster(receipt_hash(first.receipt))),
    )

    def log_what_is_leased(request: Request) -> None:
        if request.path == "lease" and coordinator.jobs:
            coordinator.log.add("roster.fixed", {"roster": coordinator.jobs[0]["inputs"]["roster"]})

    coordinator.other = log_what_is_leased
    work(state)
    assert [failure["code"] for failure in coordinator.said("/failure")] == ["roster.wrong_previous"]
    assert len(coordinator.said("/result")) == 1


def test_a_forked_log_ends_the_daemon_before_any_job(
    state: State, server: Server, approved: Manifest
) -> None:
    coordinator = Coordinator(server)
    work(state)
    coordinator.log.entries = [b"another", b"past", b"of it", b"all"]
    coordinator.jobs = [job(approved)]
    asked = len([request for request in server.requests if request.path == "lease"])
    with pytest.raises(Refusal) as caught:
        work(state)
    assert caught.value.code == "log.fork"
    assert len([request for request in server.requests if request.path == "lease"]) == asked
    assert len(coordinator.jobs) == 1


def slow_work(monkeypatch: pytest.MonkeyPatch, begun: threading.Event) -> None:
    """Replace the work itself by one that only tells its progress, for at most 20 s."""

    def do(self: JobRunner, job: LeasedJob, lease: leases.Lease) -> JoinResult:
        begun.set()
        for step in range(400):
            lease.tell("training", step / 400, f"{step} of 400 rows")
            time.sleep(0.05)
        return JoinResult(job.lease)

    monkeypatch.setattr(JobRunner, "do", do)
    monkeypatch.setattr(leases, "QUICK_SECONDS", 0.05)


def test_stopping_hands_the_job_back(
    state: State, server: Server, approved: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, stop, said = threading.Event(), threading.Event(), []
    slow_work(monkeypatch, begun)
    coordinator = Coordinator(server, job(approved))
    thread = threading.Thread(target=Daemon(state, said.append, stop).run)
    thread.start()
    assert begun.wait(10)
    stop.set()
    thread.join(15)
    assert not thread.is_alive()
    assert [failure["code"] for failure in coordinator.said("/failure")] == ["agent.stopped"]
    assert said[-1] == "The site agent has stopped."


def test_a_lease_that_was_taken_back_ends_the_work(
    state: State, server: Server, approved: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_work(monkeypatch, threading.Event())
    coordinator = Coordinator(server, job(approved))
    late = Reply(409, {"code": "lease.late", "facts": {}})
    coordinator.other = lambda request: late if request.path.endswith("/progress") else None
    started = time.monotonic()
    said = work(state)
    assert time.monotonic() - started < 10
    assert coordinator.said("/result") == [] and coordinator.said("/failure") == []
    assert any("lease.late" in line for line in said)


def test_progress_is_told_and_survives_a_broken_line(
    state: State, server: Server, approved: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def do(self: JobRunner, job: LeasedJob, lease: leases.Lease) -> JoinResult:
        for step in range(10):
            lease.tell("training", step / 10, f"{step} of 10 rows")
            time.sleep(0.1)
        return JoinResult(job.lease)

    monkeypatch.setattr(JobRunner, "do", do)
    monkeypatch.setattr(leases, "QUICK_SECONDS", 0.05)
    coordinator = Coordinator(server, job(approved))
    broken = iter([Reply(502, b"down"), Reply(502, b"down")])
    coordinator.other = lambda request: next(broken, None) if request.path.endswith("/progress") else None
    work(state)
    reported = [news for news in coordinator.said("/progress") if news["stage"] == "training"]
    assert len(reported) > 3
    assert reported[-1]["fraction"] > reported[0]["fraction"]
    assert coordinator.said("/result") == [{"lease": 1}]


def test_an_unforeseen_error_is_told_by_code_only(
    state: State,
    server: Server,
    approved: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def do(self: JobRunner, job: LeasedJob, lease: leases.Lease) -> JoinResult:
        raise ValueError("row: Mrs Canary-4711")

    monkeypatch.setattr(JobRunner, "do", do)
    coordinator = Coordinator(server, job(approved))
    said = work(state)
    assert [failure["code"] for failure in coordinator.said("/failure")] == ["internal"]
    assert "Canary" not in caplog.text + "".join(said)
    assert "ValueError" in caplog.text


def test_a_job_that_a_full_disk_ends_says_so_and_names_no_path_to_the_coordinator(
    state: State, server: Server, approved: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device", "/home/anna/secret/mailbox")

    monkeypatch.setattr(JobRunner, "do", full)
    coordinator = Coordinator(server, job(approved))
    work(state)
    failure = coordinator.said("/failure")[0]
    assert failure["code"] == "agent.no_space"
    assert "anna" not in str(failure)


def test_two_daemons_never_share_a_state_folder(state: State) -> None:
    with state.lock(), pytest.raises(Refusal) as caught, State(state.folder).lock():
        pass
    assert caught.value.code == "agent.running"
