"""Probes of the real processes: each is well while it lives, and none is when it does not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from enclave_jobs.health import FRESH_SECONDS, PROCESSES
from tests.support.installation import Installation, wait_for

pytestmark = [pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    running = Installation(tmp_path_factory.mktemp("probes"), engines={"FEDSLICE_LOG_FORMAT": "json"})
    running.start()
    yield running
    running.stop()


def probe(place: Installation, process: str) -> tuple[int, str]:
    """As a container engine asks: a process of its own."""
    command = [sys.executable, "manage.py", "health", process]
    done = subprocess.run(
        command, cwd=place.repository, env=place.environment, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def test_each_process_is_well_and_the_metrics_are_those_of_living_ones(place: Installation) -> None:
    for process in PROCESSES:
        wait_for(lambda process=process: probe(place, process)[0] == 0, 60, f"{process} is well")
    ready = httpx.get(f"{place.url}/readyz", headers={"Host": "10.0.0.7"})
    assert (ready.status_code, ready.json()) == (200, {"database": True, "migrated": True, "redis": True})
    assert httpx.get(f"{place.url}/metrics").status_code == 401
    token = (place.folder / "metrics-token").read_text()
    reported = httpx.get(f"{place.url}/metrics", headers={"Authorization": f"Bearer {token}"}).text
    assert "fedslice_redis_up 1.0" in reported
    assert 'fedslice_supervisor_up{supervisor="local"} 1.0' in reported
    age = next(line for line in reported.splitlines() if line.startswith("fedslice_sweep_age_seconds "))
    assert 0 <= float(age.split()[1]) < 600


SEND = """
from enclave_jobs import dispatch
from federation import logs
with logs.telling(request="from-the-browser", site="st-anna"):
    dispatch.send(dispatch.ADVANCE, "no-such-run")
"""


def test_what_a_request_asked_for_is_found_in_every_process_by_its_id(place: Installation) -> None:
    answer = httpx.get(f"{place.url}/nowhere", headers={"X-Request-ID": "given-by-a-proxy"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (404, "given-by-a-proxy")
    other = httpx.get(f"{place.url}/nowhere", headers={"X-Request-ID": "a line\tof its own"})
    assert re.fullmatch("[0-9a-f]{16}", other.headers["x-request-id"])
    place.shell(SEND)

    def lines(log: str, request: str | None) -> list[dict[str, str]]:
        read = [json.loads(line) for line in place.log(log).splitlines() if line.startswith("{")]
        return [line for line in read if line.get("request") == request]

    wait_for(lambda: lines("worker", "from-the-browser"), 30, "the worker's line")
    line = lines("worker", "from-the-browser")[-1]
    assert (line["run"], line["site"], line["level"]) == ("no-such-run", "st-anna", "INFO")
    assert lines("web", "given-by-a-proxy")
    swept = lines("worker", None)
    assert swept and not any("run" in line for line in swept), "ids end with their task"


def test_a_frozen_worker_and_beat_are_seen_and_so_is_what_is_gone(place: Installation) -> None:
    """Their marks grow old at once here: nobody waits half a minute for them."""
    frozen = place.pids("celery")
    assert frozen
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(1)
        old = time.time() - FRESH_SECONDS - 1
        for mark in (place.folder / "alive").iterdir():
            os.utime(mark, (old, old))
        for process in ("worker", "beat"):
            code, words = probe(place, process)
            assert (code, "last heard of" in words) == (1, True), words
        assert probe(place, "web")[0] == 0
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    for process in ("worker", "beat"):
        wait_for(lambda process=process: probe(place, process)[0] == 0, 60, f"{process} is well again")
    place.stop()
    for process, words in (("web", "does not answer"), ("supervisor", "supervisor.unreachable")):
        code, said = probe(place, process)
        assert (code, words in said) == (1, True), said


def test_what_never_ran_is_not_well(tmp_path: Path) -> None:
    place = Installation(tmp_path)
    assert probe(place, "worker")[0] == 1
