"""A proxy that ends TLS holds a token for a moment: it is good for its own request, and for no other.

Before tokens were bound, each of these was let in.
"""

from __future__ import annotations

import json

import pytest

from federation.sites.models import Site
from tests.federation.cast import API, Hospital, make_hospital

BEAT = {"agent_version": "0.1", "runtime": "development", "checks": []}


@pytest.fixture
def anna(db: None) -> Hospital:
    return make_hospital("St. Anna")


def test_a_held_back_token_sends_no_other_body(anna: Hospital) -> None:
    token = anna.token("POST", "heartbeat", json.dumps(BEAT).encode())
    answer = anna.call("POST", "heartbeat", {**BEAT, "agent_version": "9.9"}, token=token)
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.another_request")
    assert Site.objects.get().agent_version == "0.1"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "lease"), ("GET", "approvals"), ("DELETE", "datasets/x")]
)
def test_a_held_back_token_opens_no_other_door(anna: Hospital, method: str, path: str) -> None:
    answer = anna.call(method, path, token=anna.token("POST", "heartbeat", json.dumps(BEAT).encode()))
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.another_request")


def test_a_query_that_was_not_asked_is_refused(anna: Hospital) -> None:
    headers = {"Authorization": f"Bearer {anna.token('GET', 'log/checkpoint')}"}
    answer = anna.client.get(f"{API}log/checkpoint?since=0", headers=headers)
    assert answer.json()["code"] == "auth.another_request"


def test_a_refused_request_does_not_spend_the_token(anna: Hospital) -> None:
    token = anna.token("POST", "heartbeat", json.dumps(BEAT).encode())
    assert anna.call("POST", "heartbeat", {"other": 1}, token=token).status_code == 401
    assert anna.call("POST", "heartbeat", BEAT, token=token).status_code == 200
