"""Spans: whose parent is whose, what is told, and that nothing is where nobody asked for it."""

from __future__ import annotations

import re
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from federation import logs, otlp, spans

GIVEN = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def sent(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    settings.TRACES = "http://collector.example:4318"
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(otlp, "send", found.append)
    logs.begin()
    yield found
    logs.begin()


def reported(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def test_who_asks_is_the_parent(sent: list[dict[str, Any]]) -> None:
    with logs.telling(traceparent=GIVEN, request="r-1"), spans.during("outer"), spans.during("inner"):
        pass
    inner, outer = sent
    assert {span["traceId"] for span in sent} == {"a" * 32}
    assert (outer["parentSpanId"], inner["parentSpanId"]) == ("b" * 16, outer["spanId"])
    assert reported(inner) == {"fedslice.request": "r-1"}
    assert int(outer["startTimeUnixNano"]) <= int(inner["startTimeUnixNano"])
    assert int(inner["endTimeUnixNano"]) <= int(outer["endTimeUnixNano"])


def test_what_nobody_asked_for_stands_in_the_runs_own_trace_and_the_rest_links_to_it(
    sent: list[dict[str, Any]],
) -> None:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    spans.of_run("run-1", now, now, "finished")
    with logs.telling(run="run-1"), spans.during("step"):
        pass
    with logs.telling(run="run-1", traceparent=GIVEN), spans.during("asked"):
        pass
    run, step, asked = sent
    assert (step["traceId"], step["parentSpanId"]) == (run["traceId"], run["spanId"])
    assert asked["links"] == [{"traceId": run["traceId"], "spanId": run["spanId"]}]
    assert (run["parentSpanId"], step["links"], run["status"]) == ("", [], {})
    spans.of_run("run-1", now, now, "failed")
    assert sent[-1]["status"] == {"code": 2}


NO_TRACE = f"00-{'0' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize("given", ["", NO_TRACE, GIVEN.upper(), GIVEN + "-x", "ff" + GIVEN[2:]])
def test_what_is_no_traceparent_begins_a_trace(given: str, sent: list[dict[str, Any]]) -> None:
    span = spans.begin("request", given)
    assert span is not None and span.trace != "a" * 32 and span.parent == ""
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", span.carried)


def test_what_fails_says_so(sent: list[dict[str, Any]]) -> None:
    with pytest.raises(ZeroDivisionError), spans.during("step"):
        _ = 1 / 0
    assert sent[0]["status"] == {"code": 2}


@pytest.mark.django_db
def test_a_request_is_told_by_its_pages_name_and_never_by_its_address(
    sent: list[dict[str, Any]], client: Client
) -> None:
    answer = client.get("/invitations/a-secret-token/", headers={"traceparent": GIVEN})
    (span,) = sent
    assert span["traceId"] == "a" * 32 and span["parentSpanId"] == "b" * 16
    assert span["name"].startswith("GET ") and "secret" not in str(span)
    assert reported(span)["http.response.status_code"] == str(answer.status_code)
    client.get("/nowhere/canary")
    assert sent[-1]["name"] == "GET" and "canary" not in str(sent[-1])


@pytest.mark.django_db
def test_without_the_setting_nothing_is_drawn_or_kept(
    sent: list[dict[str, Any]], client: Client, settings: Any
) -> None:
    settings.TRACES = ""
    with spans.during("step"):
        assert logs.about() == {}
    client.get("/sign-in", headers={"traceparent": GIVEN})
    assert sent == [] and spans.CARRIED not in logs.about()


def test_a_collector_that_is_away_costs_spans_and_one_line(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(otlp, "MOST_WAITING", 2)
    monkeypatch.setattr(otlp._Sender, "_run", lambda self: None)
    sender = otlp._Sender()
    for _ in range(5):
        sender.add({})
    assert [record.message for record in caplog.records] == ["spans are dropped: too many wait"]


def test_a_collector_that_answers_nonsense_costs_what_it_was_sent_and_no_more(settings: Any) -> None:
    answers = [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
    asked = threading.Semaphore(0)

    class Collector(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b"".join(iter(self.rfile.readline, b"\r\n"))
            self.rfile.read(int(head.lower().split(b"content-length: ")[1].split()[0]))
            self.wfile.write(answers.pop(0))
            asked.release()

    span = otlp.encoded("step", ("a" * 32, "b" * 16, ""), (1, 2), attributes={})
    with socketserver.TCPServer(("127.0.0.1", 0), Collector) as server:
        settings.TRACES = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            for _ in range(2):
                otlp.send(span)
                assert asked.acquire(timeout=20), "nobody sends any more"
                time.sleep(0.5)
        finally:
            server.shutdown()
