"""The line to the coordinator, against a real HTTP server that drops, delays and refuses."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from contracts.agents_api.datasets import WITHDRAW
from contracts.agents_api.endpoint import Endpoint
from contracts.agents_api.jobs import FAILURE, Failure, Wish
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from site_agent import transport
from site_agent.addresses import base_url
from site_agent.backoff import pause, retry_after
from site_agent.transport import Coordinator, is_passing
from tests.site_agent.conftest import DROP, SITE, Line, Reply, Request, Server
from tests.support.instances import HERE


class Fine(Struct, frozen=True):
    fine: bool


GET = Endpoint("GET", "fine", Nothing, Fine)
POST = Endpoint("POST", "fine", Wish, Fine)


@pytest.mark.parametrize("body", [{}, {"fine": 1}, {"fine": "yes"}, {"fine": None}, [], "fine", 7, None, b""])
def test_an_answer_of_another_form_is_no_answer(server: Server, line: Line, body: Any) -> None:
    server.script(Reply(body=body))
    with pytest.raises(Refusal) as caught:
        line.coordinator.ask(GET, Nothing(), patience=0)
    assert caught.value.code == "agent.bad_answer"


def test_an_answer_may_say_more_than_this_agent_knows(server: Server, line: Line) -> None:
    """The coordinator is updated first."""
    server.script(Reply(body={"fine": True, "since": "the next version"}))
    assert line.coordinator.ask(GET, Nothing()) == Fine(True)


def test_every_request_carries_its_own_short_token(server: Server, line: Line) -> None:
    before = int(time.time())
    server.script(Reply(body={"fine": True}))
    for _ in range(3):
        line.coordinator.ask(POST, Wish(1))
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(line.key.public))
    claims = [
        jwt.decode(request.token, key, algorithms=["EdDSA"], audience="fedslice-coordinator")
        for request in server.requests
    ]
    assert len({claim["jti"] for claim in claims}) == 3
    for claim in claims:
        assert (claim["iss"], claim["sub"]) == (SITE, SITE)
        assert claim["exp"] - claim["iat"] == 30
        assert before <= claim["iat"] <= time.time()
        assert len(claim["jti"]) == 36
    assert jwt.get_unverified_header(server.requests[0].token)["alg"] == "EdDSA"


def test_a_dropped_connection_is_tried_again_with_a_fresh_token(server: Server, line: Line) -> None:
    server.script(DROP, DROP, Reply(body={"fine": True}))
    assert line.coordinator.ask(POST, Wish()) == Fine(True)
    assert len({request.token for request in server.requests}) == 3
    assert "cannot be reached" in line.said[0]
    assert "answers again" in line.said[-1]


def test_a_busy_coordinator_is_left_alone_for_as_long_as_it_asks(server: Server, line: Line) -> None:
    server.script(Reply(503, b"<html>down", {"Retry-After": "1"}), Reply(body={"fine": True}))
    started = time.monotonic()
    assert line.coordinator.ask(GET, Nothing()) == Fine(True)
    assert 1.0 <= time.monotonic() - started < 5
    assert "answered 503" in line.said[0]


def test_patience_ends(server: Server, line: Line) -> None:
    server.script(DROP)
    with pytest.raises(Refusal) as caught:
        line.coordinator.ask(GET, Nothing(), patience=0.2)
    assert caught.value.code == "agent.unreachable"
    assert len(server.requests) > 2


def test_nobody_there_is_said_in_plain_words(line: Line, server: Server) -> None:
    server.close()
    with pytest.raises(Refusal) as caught:
        line.coordinator.ask(GET, Nothing(), patience=0)
    assert caught.value.facts["fault"] == "nothing listens there"


def test_a_dead_proxy_is_the_proxys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    coordinator = Coordinator("https://coordinator.example")
    with contextlib.closing(coordinator), pytest.raises(Refusal) as caught:
        coordinator.ask(GET, Nothing(), patience=0)
    assert caught.value.code == "agent.proxy" and is_passing(caught.value)
    said = str(caught.value)
    assert f"The proxy 127.0.0.1:{port} (from HTTPS_PROXY)" in said and "nothing listens there" in said


def test_a_refusal_keeps_the_coordinators_code_and_is_not_repeated(server: Server, line: Line) -> None:
    server.script(Reply(409, {"code": "lease.late", "facts": {"code": "x", "self": 1}, "message": "m"}))
    with pytest.raises(Refusal) as caught:
        line.coordinator.ask(POST, Wish())
    assert caught.value.code == "lease.late"
    assert len(server.requests) == 1


def test_a_code_of_a_newer_coordinator_is_shown_in_its_words_made_harmless(
    server: Server, line: Line
) -> None:
    body = {"code": "new.code", "message": "Go \x1b[31maway", "hint": "‮now", "reference": "ab12"}
    server.script(Reply(400, body))
    with pytest.raises(Refusal) as caught:
        line.coordinator.ask(POST, Wish())
    assert caught.value.code == "agent.refused"
    text = str(caught.value)
    assert "new.code" in text and "ab12" in text
    assert "\x1b" not in text and "‮" not in text


def test_a_retryable_refusal_under_503_is_tried_again_and_keeps_its_code(server: Server, line: Line) -> None:
    busy = Reply(503, {"code": "supervisor.unreachable", "facts": {}, "message": ""})
    server.script(busy, busy, Reply(body={"fine": True}))
    assert line.coordinator.ask(POST, Wish()) == Fine(True)
    server.script(busy)
    with pytest.raises(Refusal) as caught:
        line.coordinator.ask(POST, Wish(), patience=0.1)
    assert caught.value.code == "supervisor.unreachable"


@pytest.mark.parametrize("reply", [Reply(200, b"<html>proxy login"), Reply(403, b"blocked"), Reply(302, b"")])
def test_an_answer_that_is_not_the_coordinators_is_named_so(server: Server, line: Line, reply: Reply) -> None:
    server.script(reply)
    with pytest.raises(Refusal) as caught:
        line.coordinator.ask(GET, Nothing(), patience=0)
    assert caught.value.code == "agent.bad_answer"


def test_a_redirect_is_not_followed(server: Server, line: Line) -> None:
    server.script(Reply(307, b"", {"Location": f"{server.url}/elsewhere"}))
    with pytest.raises(Refusal):
        line.coordinator.ask(POST, Wish(), patience=0)
    assert len(server.requests) == 1


def test_an_endless_answer_is_not_read_to_its_end(
    server: Server, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 1000)
    server.script(Reply(body={"a": "x" * 5000}))
    with pytest.raises(Refusal) as caught:
        line.coordinator.ask(GET, Nothing(), patience=0)
    assert "larger" in str(caught.value)


def test_stopping_ends_a_wait_at_once(server: Server) -> None:
    stop = threading.Event()
    coordinator = Coordinator(
        server.url, (SITE, SigningKey.generate(), HERE), stop=stop, tell=lambda text: None
    )
    server.script(Reply(503, b"", {"Retry-After": "300"}))
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Refusal) as caught:
        coordinator.ask(GET, Nothing(), patience=1000)
    assert caught.value.code == "agent.stopped"
    assert time.monotonic() - started < 5
    server.script(Reply())
    coordinator.last_words(FAILURE, Failure(1, "internal"), job="1")
    assert server.requests[-1].path == "jobs/1/failure"
    coordinator.close()


@pytest.mark.parametrize(
    ("address", "insecure", "expected"),
    [
        ("https://fl.example.org/", False, "https://fl.example.org"),
        ("https://fl.example.org:8443/base/", False, "https://fl.example.org:8443/base"),
        ("http://127.0.0.1:8000", False, "http://127.0.0.1:8000"),
        ("http://[::1]:8000", False, "http://[::1]:8000"),
        ("http://localhost", False, "http://localhost"),
        ("http://fl.example.org", True, "http://fl.example.org"),
        ("http://fl.example.org", False, "agent.insecure_http"),
        ("http://127.0.0.1.evil.example", False, "agent.insecure_http"),
        ("http://10.0.0.1", False, "agent.insecure_http"),
        ("ftp://fl.example.org", True, "agent.bad_address"),
        ("fl.example.org", False, "agent.bad_address"),
        ("https://me:secret@fl.example.org", False, "agent.bad_address"),
        ("https://fl.example.org:99999", False, "agent.bad_address"),
    ],
)
def test_plain_http_goes_only_to_this_machine(address: str, insecure: bool, expected: str) -> None:
    try:
        found = base_url(address, insecure_http=insecure)
    except Refusal as refusal:
        found = refusal.code
    assert found == expected


def test_a_ca_bundle_that_cannot_be_read_is_refused(server: Server) -> None:
    with pytest.raises(Refusal) as caught:
        Coordinator(server.url, ca_bundle="/nowhere/ca.pem")
    assert caught.value.code == "agent.bad_ca_bundle"


def test_retry_after_is_read_in_both_forms() -> None:
    assert retry_after("7") == 7
    assert retry_after("Fri, 01 Jan 2100 00:00:00 GMT") is not None
    assert retry_after("Fri, 01 Jan 2010 00:00:00 GMT") == 0
    assert retry_after("soon") is None
    assert retry_after(None) is None


def test_pauses_grow_are_spread_and_stay_bounded() -> None:
    drawn = [[pause(attempt) for _ in range(200)] for attempt in range(12)]
    assert all(max(row) <= 60 for row in drawn)
    assert max(drawn[0]) <= 0.5
    assert max(drawn[7]) > 20
    assert min(drawn[7]) < 10, "without jitter all sites come back at the same time"
    assert all(one <= 600 * 1.1 for one in (pause(0, 1e9), pause(3, 600)))
    assert pause(0, 5) >= 5


def test_the_answerer_sees_what_was_sent(server: Server, line: Line) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Reply:
        seen.append(request)
        return Reply(204, b"") if request.method == "DELETE" else Reply(body={"fine": True})

    server.answer = answer
    line.coordinator.post(WITHDRAW, Nothing(), dataset_id="../x")
    assert (seen[0].method, seen[0].path, seen[0].body) == ("DELETE", "datasets/..%2Fx", b"")
    assert line.coordinator.ask(GET, Nothing(), query={"after": 3}) == Fine(True)
    assert (seen[1].method, seen[1].path) == ("GET", "fine?after=3")
    line.coordinator.ask(POST, Wish(4))
    assert (seen[2].method, seen[2].path, seen[2].body) == ("POST", "fine", b'{"wait":4}')
