"""What an operator sees of workers, room, agents and the log."""

from __future__ import annotations

import re
import socket
import time
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from enclave_jobs import operations
from federation.attestation import log
from federation.attestation.models import LogEntry
from federation.people.models import User
from federation.sites.models import Site
from tests.federation.cast import Hospital
from tests.frontend.fullness import live_on
from tests.support import redis_server


@pytest.fixture
def operator(olga: User) -> Client:
    client = Client()
    client.force_login(olga)
    return client


def text(client: Client, name: str = "operations") -> str:
    answer = client.get(reverse(name))
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_a_broker_that_is_gone_is_said_and_is_no_error(operator: Client, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1"
    assert "Redis does not answer" in text(operator, "operations-workers")


def test_a_broker_that_takes_a_call_and_says_nothing_keeps_no_thread(operator: Client, settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        assert "Redis does not answer" in text(operator, "operations-workers")
        assert time.monotonic() - started < 8


def test_workers_tell_of_themselves_and_nobody_asks_them(
    operator: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To ask takes as long as the busiest one needs, and keeps a thread of the web process meanwhile."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a worker was asked")

    monkeypatch.setattr("celery.app.control.Control.broadcast", asked)
    with redis_server.running() as redis:
        settings.REDIS_URL = redis_server.url_of(redis)
        assert "No worker answers" in text(operator, "operations-workers")
        tail = operations.Worker("tail@machine-2", 3, ["tail"], ["enclave_jobs.advance_run"], 71)
        operations.note_worker(tail)
        redis.lpush("cpu", "a message")
        redis.lpush("cpu\x06\x166", "one that may wait")
        report = operations.worker_report()
        assert (report.workers, dict(report.queues)["cpu"]) == ([tail], 2)
        page = text(operator, "operations-workers")
        assert "tail@machine-2" in page and "enclave_jobs.advance_run" in page
        redis.delete(f"{operations.WORKER_KEY}tail@machine-2")  # as it does by itself, WORKER_SECONDS later
        assert "No worker answers" in text(operator, "operations-workers")


def test_of_a_version_that_hundreds_have_some_are_named(operator: Client) -> None:
    more = operations.NAMED_OF_A_VERSION + 7
    Site.objects.bulk_create(
        Site(id=f"s{n}", name=f"Hospital {n:03}", state="active", agent_version="0.1.0") for n in range(more)
    )
    (row,) = operations.agents()
    assert (row["count"], len(row["sites"]), row["others"]) == (more, operations.NAMED_OF_A_VERSION, 7)
    assert "and 7 more" in text(operator)


class TestAgents:
    @pytest.mark.parametrize(
        ("version", "old"),
        [
            ("0.0.9", True),
            ("0.1.0", False),
            ("0.1.0rc1", False),
            ("0.1", False),
            ("0.10", False),
            ("1", False),
            ("", False),
        ],
    )
    def test_versions_are_compared_by_number(self, version: str, old: bool) -> None:
        assert operations.is_too_old(version) is old

    def test_those_that_are_too_old_are_named(
        self, operator: Client, anna: Hospital, barbara: Hospital
    ) -> None:
        Site.objects.filter(pk=anna.site.pk).update(agent_version="0.0.3")
        Site.objects.filter(pk=barbara.site.pk).update(agent_version="0.2.0")
        old, new = text(operator).split("0.2.0")
        assert "too old" in old.split("0.0.3")[1] and "St. Anna" in old
        assert "too old" not in new.split("</tr>")[0]


def test_sealed_files_are_counted_by_kind(operator: Client, world: dict[str, Any]) -> None:
    live_on(world, rounds=2)
    page = re.sub("<[^>]+>", "", text(operator))  # "sealed" leads to the glossary
    assert "Sealed updates" in page and "in 4 files" in page


def test_a_log_that_lost_entries_raises_the_alarm(operator: Client, db: None) -> None:
    for number in range(3):
        log.append("test.entry", {"n": number})
    assert "entries are missing" not in text(operator)
    LogEntry.objects.filter(index=2).delete()
    assert "entries are missing" in text(operator)


def test_a_log_that_lost_an_entry_in_its_middle_raises_the_alarm_and_an_empty_one_is_not_called_whole(
    operator: Client, db: None
) -> None:
    assert ">whole<" not in text(operator) and ">empty<" in text(operator)
    for number in range(3):
        log.append("test.entry", {"n": number})
    assert ">whole<" in text(operator)
    LogEntry.objects.filter(index=1).delete()
    assert ">whole<" not in text(operator) and "entries are missing" in text(operator)


def test_entries_that_no_checkpoint_covers_are_counted(db: None) -> None:
    log.append("test.entry", {})
    log.checkpoint()
    assert operations.log_health().behind == 0
    log.append("test.entry", {})
    assert operations.log_health().behind == 1
