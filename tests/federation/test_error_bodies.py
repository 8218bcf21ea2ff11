"""How the API says no: the catalogue's words for what is foreseen, a reference for what is not."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError

from contracts.refusal import Refusal
from error_catalogue import CATALOGUE, explain
from federation.errors import body_of
from federation.refusals import STATUS, status_of
from federation.sites import services
from tests.federation.cast import Hospital

FEDERATION = Path(__file__).parents[2] / "federation"
BEAT = {"agent_version": "0.1", "runtime": "development", "checks": []}


def test_a_refusal_has_the_catalogues_words(anna: Hospital) -> None:
    reported = anna.call("delete", "datasets/none").json()
    assert set(reported) == {"code", "message", "hint", "responsible", "retry", "facts", "reference"}
    words = explain("request.not_found")
    assert (reported["code"], reported["message"], reported["hint"]) == (
        words.code,
        words.message,
        words.hint,
    )
    assert (reported["responsible"], reported["retry"], reported["facts"]) == ("site", False, {})


@pytest.mark.parametrize(
    "error", [RuntimeError("the secret is hunter2"), Refusal("nobody.knows.this", secret="hunter2")]
)
def test_what_nobody_foresaw_is_internal_to_the_reader_and_a_traceback_to_the_log(
    anna: Hospital, monkeypatch: Any, caplog: Any, error: Exception
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(services, "heartbeat", broken)
    with caplog.at_level(logging.ERROR, "federation.errors"):
        answer = anna.call("post", "heartbeat", BEAT)
    reported = answer.json()
    assert (answer.status_code, reported["code"], reported["facts"]) == (500, "internal", {})
    assert reported["reference"] in caplog.text
    assert "sites/api.py" in caplog.text and type(error).__name__ in caplog.text
    assert "hunter2" not in answer.content.decode() + caplog.text


def test_a_busy_database_asks_to_try_again_and_its_operator_learns_why(
    anna: Hospital, monkeypatch: Any, caplog: Any
) -> None:
    def busy(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("database is locked: hunter2") from TimeoutError("hunter2")

    monkeypatch.setattr(services, "heartbeat", busy)
    answer = anna.call("post", "heartbeat", BEAT)
    assert (answer.status_code, answer.json()["code"], answer.json()["retry"]) == (503, "request.busy", True)
    (line,) = [row.getMessage() for row in caplog.records if row.levelno == logging.WARNING]
    assert "TimeoutError" in line and answer.json()["reference"] in line and "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("vendor", "code"), [("postgresql", "request.busy"), ("sqlite", "internal")], ids=["away", "missing"]
)
def test_a_database_that_is_away_asks_to_try_again_and_a_missing_table_does_not(
    anna: Hospital, monkeypatch: Any, vendor: str, code: str
) -> None:
    """PostgreSQL says so only of what passes: it restarts, recovers, has closed a connection of the pool."""

    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("the database system is in recovery mode; no such table: one")

    monkeypatch.setattr(services, "heartbeat", away)
    monkeypatch.setattr("federation.errors.connection", SimpleNamespace(vendor=vendor))
    answer = anna.call("post", "heartbeat", BEAT)
    assert answer.json()["code"] == code and answer.status_code == (503 if code == "request.busy" else 500)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"agent_version": NaN}', b"null"])
def test_what_is_not_the_expected_json_is_refused(anna: Hospital, body: bytes) -> None:
    answer = anna.client.post(
        "/api/agent/v1/heartbeat",
        data=body,
        content_type="application/json",
        headers={"Authorization": f"Bearer {anna.token('POST', 'heartbeat', body)}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "request.invalid")


def test_what_no_database_stores_is_refused_before_one_is_asked(anna: Hospital) -> None:
    """PostgreSQL knows no NUL in a text, and answers with an error that nobody foresaw."""
    answer = anna.call("delete", "datasets/a%00b")
    assert (answer.status_code, answer.json()["code"]) == (404, "request.not_found")
    answer = anna.call("get", "log/proof?kind=manifest&manifest=a%00b")
    assert (answer.status_code, answer.json()["code"]) == (404, "request.not_found")
    answer = anna.call("post", "heartbeat", {**BEAT, "agent_version": "0\0"})
    assert (answer.status_code, answer.json()["code"]) == (400, "request.invalid")


def test_a_large_body_is_refused_before_anybody_is_asked_who_he_is(anna: Hospital) -> None:
    answer = anna.client.post("/api/agent/v1/enrol", data=b"x" * 20_000, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")
    assert answer.json()["facts"] == {"limit": 16_384}


def test_every_code_that_the_control_plane_raises_is_in_the_catalogue() -> None:
    raised = set()
    for path in FEDERATION.rglob("*.py"):
        raised.update(re.findall(r'Refusal\(\s*"([a-z_.]+)"', path.read_text()))
    assert len(raised) > 40
    assert raised <= set(CATALOGUE)
    assert set(STATUS) <= set(CATALOGUE)


def test_failed_identity_is_401_and_the_rest_400_unless_said() -> None:
    assert [status_of(code) for code in ("auth.replayed", "auth.forbidden", "nonce.used")] == [401, 403, 400]


def test_a_code_that_is_not_in_the_catalogue_is_internal_to_the_reader() -> None:
    assert body_of("no.such.code", {}, "r")["code"] == "internal"
