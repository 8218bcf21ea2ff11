"""Waiting for work behind proxies that cut quiet requests, and at coordinators that keep none.
(tests/jobs/test_line.py: the real coordinator.)"""

from __future__ import annotations

import time

import pytest

import site_agent.line as module
from contracts.refusal import Refusal
from site_agent.line import LONGEST_WAIT, PlaceInLine
from tests.site_agent.conftest import DROP, Reply, Request, Server
from tests.site_agent.conftest import Line as Reached

EMPTY = Reply(204, b"", {"Retry-After": "0"})


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    monkeypatch.setattr(module, "KEPT_SECONDS", 0.05)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)


def waits(server: Server) -> list[int]:
    return [request.json.get("wait", 0) for request in server.requests]


def test_a_proxy_that_cuts_quiet_requests_makes_waits_shorter_down_to_none(
    server: Server, line: Reached
) -> None:
    def cut(request: Request) -> Reply:
        if not request.json.get("wait"):
            return EMPTY
        time.sleep(0.06)
        return DROP

    server.answer = cut
    asking = PlaceInLine(line.coordinator, lambda: None)
    for _ in range(6):
        assert asking.next_job(LONGEST_WAIT, 60.0) is None
    assert [wait for wait in waits(server) if wait] == [25, 12, 6, 3]
    assert waits(server)[-1] == 0


def test_a_wait_that_was_answered_in_full_makes_the_next_one_longer(server: Server, line: Reached) -> None:
    def kept(request: Request) -> Reply:
        time.sleep(0.06)
        return DROP if waits(server) == [25] else Reply(204, b"")

    server.answer = kept
    asking = PlaceInLine(line.coordinator, lambda: None)
    for _ in range(5):
        assert asking.next_job(LONGEST_WAIT, 60.0) is None
    assert [wait for wait in waits(server) if wait] == [25, 12, 17, 22, 25]


def test_a_coordinator_that_keeps_no_requests_is_not_asked_in_a_rush(
    server: Server, line: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.3)
    server.answer = lambda request: Reply(204, b"")
    began = time.monotonic()
    assert PlaceInLine(line.coordinator, lambda: None).next_job(LONGEST_WAIT, 60.0) is None
    assert time.monotonic() - began >= 0.3


def test_what_the_coordinator_refuses_is_no_reason_to_ask_again(server: Server, line: Reached) -> None:
    server.answer = lambda request: Reply(403, {"code": "auth.site_suspended", "facts": {}})
    with pytest.raises(Refusal) as refusal:
        PlaceInLine(line.coordinator, lambda: None).next_job(LONGEST_WAIT, 60.0)
    assert refusal.value.code == "auth.site_suspended"
    assert waits(server) == [25]
