"""Who may do what through the agents' API: every endpoint has a row, and everybody tries it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse

from federation.api_urls import urlpatterns
from federation.attestation import log
from federation.attestation.models import LogEntry
from federation.audit.models import AuditEntry
from federation.datasets.models import Dataset
from federation.sites.models import Site, SiteState
from federation.studies.models import Approval, Study
from tests.federation.cast import API, Hospital, make_dataset

CARD = {"rows": 9, "labels": {}, "splits": {"train": 9}, "text_length": {"p50": 10}}
BEAT = {"agent_version": "0.1", "runtime": "development", "checks": []}

Rows = dict[str, tuple[str, str, Callable[[Any], Any], int, int]]


class World:
    """A frozen study of St. Anna and St. Barbara, a log, and a dataset of St. Anna's on offer."""

    def __init__(self, frozen: Study, anna: Hospital) -> None:
        self.study, self.anna = frozen, anna
        self.dataset = make_dataset(anna.site, "spare")
        log.append("test.entry", {})
        log.append("test.entry", {})


@pytest.fixture
def world(frozen: Study, anna: Hospital) -> World:
    return World(frozen, anna)


def signature(world: World) -> dict[str, str]:
    """St. Anna's signature, whoever sends it."""
    digest = world.study.manifest_hash
    return world.anna.signed(digest)


def question(world: World) -> dict[str, Any]:
    """A question to the lead, in the thread of whoever sends it."""
    return {"study": world.study.pk, "kind": "message", "about": "study", "text": "Why?"}


# name: (method, path, body, status for St. Anna's agent, status for St. Barbara's agent)
TABLE: Rows = {
    "agent-heartbeat": ("post", "heartbeat", lambda world: BEAT, 200, 200),
    "agent-machine": ("get", "machine", lambda world: None, 200, 200),
    "agent-datasets": (
        "post", "datasets",
        lambda world: {"name": "new", "digest": secrets.token_hex(32), "card": CARD}, 200, 200,
    ),
    "agent-dataset": ("delete", "datasets/{dataset}", lambda world: None, 204, 404),
    "agent-approvals": ("get", "approvals", lambda world: None, 200, 200),
    "agent-approvals:post": ("post", "approvals", signature, 200, 400),
    "agent-threads": ("get", "threads", lambda world: None, 200, 200),
    "agent-threads:post": ("post", "threads", lambda world: question(world), 200, 200),
    "agent-approval-key": (
        "post", "approval-key", lambda world: {"token": "x", "approval_key": "5" * 64}, 400, 400
    ),
    "agent-collateral": ("get", "collateral", lambda world: None, 200, 200),
    "agent-release-statement": ("get", "release-statement", lambda world: None, 200, 200),
    "agent-log-checkpoint": ("get", "log/checkpoint", lambda world: None, 200, 200),
    "agent-log-consistency": ("get", "log/consistency?from=1&to=2", lambda world: None, 200, 200),
    "agent-log-proof": (
        "get", "log/proof?kind=appraisal&manifest=" + "0" * 64, lambda world: None, 404, 404
    ),
    "agent-log-inclusion": ("get", "log/inclusion?entry=0", lambda world: None, 200, 200),
}  # fmt: skip
OPEN = {"agent-enrol"}


def test_the_table_has_every_endpoint() -> None:
    names = {pattern.name for pattern in urlpatterns}
    assert names == {name.partition(":")[0] for name in TABLE} | OPEN
    for name in names - {"agent-dataset"}:
        paths = [row[1] for key, row in TABLE.items() if key.partition(":")[0] == name]
        assert all(reverse(str(name)) == API + path.partition("?")[0] for path in paths)


def records() -> list[Any]:
    """All that an agent's request could have changed."""
    actions = AuditEntry.objects.exclude(action="site.machine")  # the first request binds the site's machine
    tables = (Dataset.objects, Approval.objects, LogEntry.objects, actions)
    sites = list(Site.objects.values("pk", "state", "last_seen", "agent_version"))
    return [*(list(table.values()) for table in tables), sites]


def ask(world: World, hospital: Hospital, row: Any, **options: Any) -> Any:
    method, path, body, _, _ = row
    return hospital.call(method, path.format(dataset=world.dataset.pk), body(world), **options)


@pytest.mark.parametrize("name", TABLE)
def test_its_own_site(world: World, anna: Hospital, name: str) -> None:
    assert ask(world, anna, TABLE[name]).status_code == TABLE[name][3]


@pytest.mark.parametrize("name", TABLE)
def test_another_site(world: World, barbara: Hospital, name: str) -> None:
    before = records()
    answer = ask(world, barbara, TABLE[name])
    assert answer.status_code == TABLE[name][4]
    if TABLE[name][4] >= 400:
        assert answer.json()["code"] in (
            "request.not_found",
            "sealing.bad_signature",
            "release.not_asked",
            "enrolment.unknown_token",
        )
        assert records() == before


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(
    ("state", "code"),
    [(SiteState.SUSPENDED, "auth.site_suspended"), (SiteState.REVOKED, "auth.site_revoked")],
)
def test_a_stopped_site(world: World, anna: Hospital, name: str, state: str, code: str) -> None:
    Site.objects.filter(pk=anna.site.pk).update(state=state)
    before = records()
    answer = ask(world, anna, TABLE[name])
    assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert records() == before


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(
    ("token", "code"),
    [("", "auth.missing"), ("not.a.token", "auth.bad_token")],
)
def test_nobody(world: World, anna: Hospital, name: str, token: str, code: str) -> None:
    before = records()
    answer = ask(world, anna, TABLE[name], token=token)
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert records() == before


@pytest.mark.parametrize("name", TABLE)
def test_a_person_who_is_signed_in_is_no_agent(world: World, anna: Hospital, olga: Any, name: str) -> None:
    anna.client.force_login(olga)
    answer = ask(world, anna, TABLE[name], token="")
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.missing")


def test_a_site_sees_only_its_own_approvals(world: World, barbara: Hospital, clara: Hospital) -> None:
    assert len(barbara.call("get", "approvals").json()) == 1
    assert clara.call("get", "approvals").json() == []


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_another_method_is_refused_by_its_code(anna: Hospital, method: str) -> None:
    answer = anna.call(method, "heartbeat")
    assert (answer.status_code, answer.json()["code"]) == (405, "request.method")
    assert answer.json()["facts"] == {"method": method.upper()}
