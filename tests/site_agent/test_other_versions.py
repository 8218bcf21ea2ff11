"""An agent and a coordinator of two versions, either the older: what the one does not know is refused in
words that say so, and not tried again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts.agents_api.endpoint import Endpoint
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from error_catalogue import explain
from site_agent import transport
from site_agent.transport import JSON, Coordinator

pytestmark = pytest.mark.django_db(transaction=True)
BODY = {
    "token": "t",
    "public_key": "0" * 64,
    "approval_key": "1" * 64,
    "agent_version": "1",
    "runtime": "sgx",
}


def refused(live_server: Any, path: str, body: dict[str, Any]) -> Refusal:
    coordinator = Coordinator(live_server.url, insecure_http=True)
    try:
        with pytest.raises(Refusal) as caught:
            coordinator.send(Endpoint("POST", path, Nothing, Nothing), msgspec.json.encode(body), JSON)
    finally:
        coordinator.close()
    return caught.value


@pytest.mark.parametrize("of", ["the API's version", "an address"])
def test_an_address_that_the_coordinator_does_not_know(
    live_server: Any, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    if of == "the API's version":
        monkeypatch.setattr(transport, "AGENTS_API", "/api/agent/v2/")
    refusal = refused(live_server, "enrol" if of == "the API's version" else "rounds-of-tomorrow", BODY)
    words = explain(refusal.code, refusal.facts)
    assert refusal.code == "request.other_version" and not words.retry
    assert "of another version than the agent" in words.message and "/install" in words.hint


def test_a_field_that_the_coordinator_does_not_know_or_misses(live_server: Any) -> None:
    for body in (BODY | {"of_tomorrow": 1}, {"token": "t"}):
        refusal = refused(live_server, "enrol", body)
        words = explain(refusal.code, refusal.facts)
        assert refusal.code == "request.invalid" and not words.retry
        assert "older than the coordinator, update it" in words.hint
