"""The line on which agents wait for work: a real web process, a real Redis, a database on disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from contracts.agents_api.jobs import FAILURE, PROGRESS, Failure, LeasedJob, ProgressBody
from contracts.bound_request import AGENTS_API, bind_request
from contracts.kept_keys import signing_key
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from enclave_jobs.jobs.bell import Bell
from site_agent import leases
from site_agent.line import PlaceInLine
from site_agent.transport import Coordinator, HttpAnswer
from tests.support import beginnings, redis_server
from tests.support.console import Console
from tests.support.installation import REPOSITORY, free_port, wait_for
from tests.support.instances import HERE

SCENE = """
import enclave_jobs.jobs.leases, federation.studies.models as studies
from contracts.kept_keys import signing_secret
from tests.jobs.cast import make_scene
scene = make_scene()
print(scene.anna.site.pk, signing_secret(scene.anna.key).hex(), scene.run.pk)
"""
OFFER = """
from enclave_jobs.jobs.models import JobKind
from tests.jobs.cast import offer
from enclave_jobs.runs.models import Round, Run
run = Run.objects.get(pk={run!r})
round, _ = Round.objects.get_or_create(run=run, number={number})
print(offer(run, {site!r}, JobKind.EVALUATE, round, {{"epoch": 1}}).pk)
"""


@dataclass
class Place:
    """A site of the coordinator, and the ways to reach and to change it."""

    url: str
    site: str
    key: SigningKey
    run: str
    console: Console
    redis: Redis
    process: subprocess.Popen[bytes]
    offered: int = 1

    def agent(self, stop: threading.Event | None = None) -> Coordinator:
        return Coordinator(self.url, (self.site, self.key, HERE), insecure_http=True, stop=stop)

    def offer(self) -> str:
        self.offered += 1
        code = OFFER.format(run=self.run, site=self.site, number=self.offered)
        return self.console.ask(code=code).strip()

    def clear(self) -> None:
        self.console.ask(code="from enclave_jobs.jobs.models import Job; Job.objects.all().delete()")


def start_web(environment: dict[str, str], port: int, log: Path) -> subprocess.Popen[bytes]:
    from enclave_jobs.stack import web_process

    command = [word if word != "8000" else str(port) for word in web_process().command]
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=out, stderr=out)
    wait_for(lambda: _answers(f"http://127.0.0.1:{port}/healthz"), 90, "the web process answers")
    return process


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, port = tmp_path_factory.mktemp("line"), free_port()
    with redis_server.running() as redis:
        environment = {
            **os.environ,
            "FEDSLICE_STATE": str(folder),
            "FEDSLICE_REDIS": redis_server.url_of(redis),
            "FEDSLICE_URL": f"http://127.0.0.1:{port}",
        }
        shutil.copy(beginnings.database(str(beginnings.tiny_model())), folder / beginnings.DATABASE)
        console = Console(REPOSITORY, environment)
        site, key, run = console.ask(code=SCENE).split()
        process = start_web(environment, port, folder / "web.log")
        try:
            yield Place(
                environment["FEDSLICE_URL"], site, signing_key(bytes.fromhex(key)), run, console,
                redis, process,
            )  # fmt: skip
        finally:
            console.close()
            process.kill()
            process.wait()


@pytest.fixture
def place(served: Place) -> Iterator[Place]:
    yield served
    served.clear()


@pytest.fixture
def later() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def kept(place: Place, later: ThreadPoolExecutor, wait: int) -> Future[HttpAnswer[LeasedJob]]:
    """A request that the coordinator keeps."""
    asked = later.submit(leases.ask, place.agent(), wait, 0.0)
    wait_for(lambda: place.redis.pubsub_numsub("fedslice:wake")[0][1], 20, "the web process listens")
    time.sleep(1.0)
    assert not asked.done()
    return asked


def test_work_reaches_a_waiting_agent_as_soon_as_it_is_offered(
    place: Place, later: ThreadPoolExecutor
) -> None:
    asked = kept(place, later, 20)
    offered = place.offer()
    job = asked.result(60).value
    assert job is not None
    assert (job.id, job.lease, job.run) == (offered, 1, place.run)


def test_who_waits_in_vain_hears_so_when_the_time_is_over_and_is_not_sent_away(place: Place) -> None:
    began = time.monotonic()
    answer = leases.ask(place.agent(), 2, 0.0)
    assert answer.value is None
    assert time.monotonic() - began >= 2
    assert "retry-after" not in answer.headers
    assert "fedslice-wait" not in answer.headers


def test_a_job_that_may_be_tried_again_later_comes_when_it_is_due(place: Place) -> None:
    place.offer()
    first = leases.ask(place.agent(), 0, 0.0).value
    assert first is not None
    place.agent().ask(FAILURE, Failure(first.lease, "wire.closed"), job=first.id)
    again = leases.ask(place.agent(), 20, 0.0).value
    assert again is not None
    assert (again.id, again.lease) == (first.id, 2)


def test_an_agent_whose_answer_was_lost_gets_its_job_at_once(place: Place) -> None:
    place.offer()
    lost = leases.ask(place.agent(), 0, 0.0).value
    again = leases.ask(place.agent(), 0, 0.0).value
    assert lost is not None and again is not None
    assert (again.id, again.lease) == (lost.id, lost.lease + 1)
    with pytest.raises(Refusal) as refusal:
        place.agent().ask(PROGRESS, ProgressBody(lost.lease, "training"), job=lost.id)
    assert refusal.value.code == "lease.late"


def test_a_run_that_goes_on_after_a_pause_wakes_the_agents_that_wait(
    place: Place, later: ThreadPoolExecutor
) -> None:
    steer = "from federation.people.models import User\nfrom enclave_jobs.runs import services as runs\n"
    steer += f"run = runs.Run.objects.get(pk={place.run!r})\n"
    steer += "runs.{}(User.objects.get(pk=run.study.lead_id), run)"
    place.console.ask(code=steer.format("pause"))
    offered = place.offer()
    asked = kept(place, later, 20)
    place.console.ask(code=steer.format("resume"))
    job = asked.result(60).value
    assert job is not None
    assert job.id == offered


def test_a_site_keeps_no_more_than_a_few_requests_on_the_line(
    place: Place, later: ThreadPoolExecutor
) -> None:
    """Its key could open thousands: each is a connection, and memory."""
    with ThreadPoolExecutor(7) as many:
        answers = list(many.map(lambda _: leases.ask(place.agent(), 8, 0.0), range(7)))
    assert {answer.value for answer in answers} == {None}
    assert sum(answer.headers.get("retry-after") == "2" for answer in answers) == 3


def test_a_crowd_that_asks_at_once_is_sent_away_for_some_seconds_before_its_tokens_are_too_old() -> None:
    """None of those who are sent away takes a thread, or a place in the queue for one."""
    from enclave_jobs.jobs import line

    go_on, begun = threading.Event(), list[int]()

    def slow(_environment: object, start: Any) -> list[bytes]:
        begun.append(1)
        go_on.wait(30)
        start("204 No Content", [])
        return [b""]

    async def crowd() -> list[dict[bytes, bytes]]:
        app = line.Line(slow, Bell("redis://127.0.0.1:1"))
        asked = [asyncio.ensure_future(_asked(app)) for _ in range(line.MOST_ASKING + 40)]
        reported, _ = await asyncio.wait(asked, timeout=5)
        assert len(reported) == 40
        go_on.set()
        await asyncio.wait_for(asyncio.gather(*asked), 30)
        later = await asyncio.wait_for(_asked(app), 30)
        return [*(one.result() for one in reported), later]

    *reported, later = asyncio.run(crowd())
    assert all(int(headers[b"retry-after"]) in line.AWAY_SECONDS for headers in reported)
    assert len({headers[b"retry-after"] for headers in reported}) > 1, "they all come back in the same second"
    assert b"retry-after" not in later, "there is room again"
    assert len(begun) == line.MOST_ASKING + 1


async def _asked(app: Any) -> dict[bytes, bytes]:
    """The headers of an answer to an agent that asks for work."""
    reported: list[Any] = []
    scope = {"type": "http", "method": "POST", "path": f"{AGENTS_API}lease", "query_string": b"",
             "headers": [], "http_version": "1.1", "server": ("127.0.0.1", 1)}  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        reported.append(message)

    await app(scope, receive, send)
    return dict(reported[0]["headers"])


def test_who_left_the_line_is_leased_nothing(place: Place) -> None:
    token = place.agent()._authorization(_bound(place, 40))["Authorization"]
    head = f"POST {AGENTS_API}lease HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n"
    with socket.create_connection(("127.0.0.1", int(place.url.rsplit(":", 1)[1]))) as line:
        line.sendall((head + 'Content-Length: 11\r\n\r\n{"wait":40}').encode())
        time.sleep(1.5)
    time.sleep(0.5)
    offered = place.offer()
    job = leases.ask(place.agent(), 0, 0.0).value
    assert job is not None
    assert (job.id, job.lease) == (offered, 1)


def _bound(place: Place, wait: int) -> object:
    return bind_request("POST", "lease", f'{{"wait":{wait}}}'.encode())


def test_a_redis_that_went_away_delays_work_and_loses_none(place: Place, later: ThreadPoolExecutor) -> None:
    asked = kept(place, later, 6)
    place.redis.client_kill_filter(_type="pubsub")
    offered = place.offer()
    job = asked.result(60).value
    if job is None:  # the word fell between two subscriptions: the next request finds the job
        job = leases.ask(place.agent(), 0, 0.0).value
    assert job is not None
    assert job.id == offered


def test_a_redis_that_forgot_everything_opens_no_replay_and_agents_go_on(
    place: Place, later: ThreadPoolExecutor
) -> None:
    """Token ids and nonces are the database's, so that nothing that Redis loses can be sent a second time."""
    body = b'{"wait":0}'
    token = place.agent()._authorization(bind_request("POST", f"{AGENTS_API}lease", body))["Authorization"]
    headers = {"Authorization": token, "Content-Type": "application/json"}
    used = httpx.post(f"{place.url}{AGENTS_API}lease", content=body, headers=headers)
    assert used.status_code == 204
    asked = kept(place, later, 20)
    place.redis.flushall()
    assert place.redis.dbsize() == 0
    replayed = httpx.post(f"{place.url}{AGENTS_API}lease", content=body, headers=headers)
    assert (replayed.status_code, replayed.json()["code"]) == (401, "auth.replayed")
    offered = place.offer()
    job = asked.result(60).value
    assert job is not None
    assert job.id == offered


def test_a_stopped_agent_leaves_at_once(place: Place, later: ThreadPoolExecutor) -> None:
    stop = threading.Event()
    line = PlaceInLine(place.agent(stop), lambda: None)
    asked = later.submit(line.next_job, 25, 60.0)
    time.sleep(1.5)
    assert not asked.done()
    stop.set()
    with pytest.raises(Refusal) as refusal:
        asked.result(5)
    assert refusal.value.code == "agent.stopped"


def test_checks_that_somebody_asks_for_are_heard_on_the_line(place: Place, later: ThreadPoolExecutor) -> None:
    wanted = threading.Event()
    stop = threading.Event()
    want = "from federation.sites.models import Site; Site.objects.filter(pk={!r}).update(check_wanted={})"
    place.console.ask(code=want.format(place.site, True))
    asked = later.submit(PlaceInLine(place.agent(stop), wanted.set).next_job, 25, 60.0)
    assert wanted.wait(10)
    place.console.ask(code=want.format(place.site, False))
    assert asked.result(60) is None


def test_a_web_process_that_ends_lets_the_waiting_go(served: Place, later: ThreadPoolExecutor) -> None:
    """Last here: the process is gone afterwards."""
    asked = kept(served, later, 20)
    began = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert asked.result(60).value is None
    assert served.process.wait(20) is not None
    assert time.monotonic() - began < 10
