"""One message waits for a run: none is sent in vain, and none is missing, whatever is killed or lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from enclave_jobs import dispatch, pending
from enclave_jobs.conductor import telling
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.supervisor.answers import AnswerCache
from tests.jobs.cast import make_scene
from tests.support import redis_server
from tests.support.installation import wait_for


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with redis_server.running() as redis:
        yield redis


@pytest.fixture
def redis(server: Redis, settings: Any) -> Redis:
    server.flushall()
    settings.REDIS_URL = redis_server.url_of(server)
    return server


@pytest.fixture
def messages(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the messages that the broker has."""
    waiting: list[str] = []
    take = lambda _task, args, task_id, retry: waiting.append(task_id)  # noqa: E731
    monkeypatch.setattr("enclave_jobs.dispatch.current_app.send_task", take)
    return waiting


class Task:
    name = dispatch.ADVANCE


def wish(run: str = "run") -> None:
    dispatch.send(dispatch.ADVANCE, run)


def begin(messages: list[str]) -> None:
    dispatch.begun(messages.pop(0), Task(), ("run",))


def test_a_hundred_wishes_are_one_message(messages: list[str]) -> None:
    for _ in range(100):
        wish()
    assert len(messages) == 1
    wish("another run")
    assert len(messages) == 2


def test_what_changes_after_a_step_has_begun_is_worth_another_message(messages: list[str]) -> None:
    wish()
    begin(messages)
    wish()
    assert len(messages) == 1


def test_many_at_once_send_one(messages: list[str]) -> None:
    threads = [threading.Thread(target=wish) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(messages) == 1


def test_a_message_that_comes_twice_takes_no_other_its_place(messages: list[str]) -> None:
    wish()
    twice = messages[0]
    begin(messages)
    wish()
    dispatch.begun(twice, Task(), ("run",))
    wish()
    assert len(messages) == 1


def test_a_sender_that_is_killed_before_it_sends_is_healed_by_the_next_sweep(
    redis: Redis, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        die = lambda *_args, **_options: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        dying.setattr("enclave_jobs.dispatch.current_app.send_task", die)
        child = os.fork()
        if child == 0:
            wish()
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert redis.keys("fedslice:waits:*") and not messages
    began = time.monotonic()
    wait_for(lambda: (wish(), messages)[1], 10, "the sweep's message")  # type: ignore[func-returns-value]
    assert time.monotonic() - began <= pending.CLAIM_SECONDS + 0.5


def test_a_broker_that_lost_everything_is_sent_to_at_once(redis: Redis, messages: list[str]) -> None:
    wish()
    redis.flushall()
    messages.clear()
    wish()
    assert len(messages) == 1


def test_a_message_that_was_lost_alone_is_sent_again_when_its_place_falls(
    messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "WAITING_SECONDS", 1)
    wish()
    messages.clear()
    wish()
    assert not messages
    time.sleep(1.1)
    wish()
    assert len(messages) == 1


def test_a_broker_that_is_away_stops_nobody(settings: Any) -> None:
    settings.REDIS_URL = "redis+socket:///nowhere/at-all"
    wish()
    dispatch.begun("1", Task(), ("run",))


def test_who_goes_before_the_work_is_over_is_told_when_it_is(tmp_path: Any) -> None:
    answers, go, reported = AnswerCache(tmp_path), threading.Event(), threading.Event()
    assert answers.once("run", "key", lambda: b"done" if go.wait(10) else b"", 0.01, reported.set) is None
    assert not reported.is_set()
    go.set()
    assert reported.wait(10)
    untold = threading.Event()
    assert answers.once("run", "key", bytes, 5, untold.set) == b"done"
    assert not untold.is_set()


def test_who_goes_before_it_is_refused_is_told_too(tmp_path: Any) -> None:
    answers, go, reported = AnswerCache(tmp_path), threading.Event(), threading.Event()

    def refuse() -> bytes:
        go.wait(10)
        raise ValueError

    assert answers.once("run", "key", refuse, 0.01, reported.set) is None
    go.set()
    assert reported.wait(10)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("purpose", "task"),
    [({}, dispatch.ADVANCE), ({"serves": True}, dispatch.SERVE), ({"releases": True}, dispatch.RELEASE)],
)
def test_the_supervisor_has_the_step_sent_that_waits_for_the_enclave(
    monkeypatch: pytest.MonkeyPatch, purpose: dict[str, bool], task: str
) -> None:
    scene, sent = make_scene(), []
    monkeypatch.setattr("enclave_jobs.dispatch.send", lambda *what: sent.append(what))
    monkeypatch.setattr("enclave_jobs.conductor.telling.connections.close_all", lambda: None)
    Enclave.objects.filter(pk=scene.enclave.pk).update(**purpose)
    telling.over(scene.enclave.pk)
    telling.over("an-enclave-that-nobody-knows")
    assert sent == [(task, scene.run.pk)]
