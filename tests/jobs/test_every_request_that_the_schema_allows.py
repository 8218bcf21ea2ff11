"""What the OpenAPI description allows, and what it does not, asked by everybody (requests by schemathesis).

Every answer has a documented status; an error is one object with a code of the catalogue, never an internal
error; and nobody reads what is another's. Many more requests: `make test-long`, with FEDSLICE_FUZZ of each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any
from unittest import SkipTest
from urllib.parse import quote, urlencode

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from enclave_jobs.blobs import store as blobs
from error_catalogue import CATALOGUE
from federation import urls
from federation.people.models import Role
from federation.sites.models import Site, SiteState
from tests.federation.cast import API, Hospital, make_hospital, make_person
from tests.federation.conftest import state_folder  # noqa: F401  fixture
from tests.jobs.test_jobs_api_permissions import Held, held  # noqa: F401  fixture

SEALED = b"sealed bytes of St. Anna"
LONG = int(os.environ.get("FEDSLICE_FUZZ", "150"))
Ask = Callable[[str, str, bytes | None, dict[str, str]], Any]
MEMBERS, AGENTS = ("St. Anna", "St. Barbara"), ("St. Anna", "St. Barbara", "St. Clara")
PEOPLE = ("lead", "site admin", "auditor", "operator", "operator without second factor")
ROLES = (*AGENTS, "suspended site", "anonymous", *PEOPLE)


@cache
def operations() -> dict[str, Any]:
    """Every operation of the agents' API, by its id, with requests of both kinds: allowed and not. The
    library is loaded here, as it takes seconds, which whoever collects the tests would pay."""
    import schemathesis
    from schemathesis.config import SchemathesisConfig

    described = SchemaGenerator(patterns=urls.urlpatterns).get_schema(request=None, public=True)
    config = SchemathesisConfig.from_dict({})
    loaded = schemathesis.openapi.from_dict(described, config=config)
    return {found.ok().label: found.ok() for found in loaded.get_all_operations()}


def requests(operation: Any) -> st.SearchStrategy[Any]:
    """Requests that the description allows and, where it can be broken, some that it does not."""
    from schemathesis import GenerationMode

    allowed = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    try:
        broken = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    except SkipTest:  # nothing in it can be wrong
        return allowed
    return allowed | broken


def speaks_as(held: Held, role: str) -> Ask:  # noqa: F811
    """A way to ask as this role: by the agent's signed token, or by a person's session."""
    scene = held.scene
    hospitals = {"St. Anna": scene.anna, "St. Barbara": scene.berta, "St. Clara": scene.stranger}
    if role == "suspended site":
        hospitals[role] = make_hospital("St. Daria")
        Site.objects.filter(pk=hospitals[role].site.pk).update(state=SiteState.SUSPENDED)
    if role in hospitals:
        return partial(by_agent, hospitals[role])
    client = Client(raise_request_exception=False)
    if role != "anonymous":
        kind = {"lead": Role.LEAD, "site admin": Role.SITE_ADMIN, "auditor": Role.AUDITOR}.get(
            role, Role.OPERATOR
        )
        site = scene.anna.site if kind == Role.SITE_ADMIN else None
        person = make_person(f"{role.replace(' ', '.')}@example.org", kind, site)
        client.force_login(person)
        if role == "operator without second factor":
            session = client.session
            session.pop("second_factor", None)
            session.save()
    return partial(send, client)


def by_agent(hospital: Hospital, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
    token = hospital.token(method, path.removeprefix(API), body or b"")
    return send(hospital.client, method, path, body, {**headers, "Authorization": f"Bearer {token}"})


def send(client: Client, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
    return client.generic(method, path, body or b"", content_type="application/json", headers=headers)


def known(held: Held) -> dict[str, list[str]]:  # noqa: F811
    """What a path's parameter may really name, St. Anna's before all."""
    return {
        "job": [held.job.pk],
        "run": [held.scene.run.pk],
        "upload": [held.upload.pk],
        "sha256": [held.blob.sha256],
        "dataset_id": ["none"],
    }


def judge(held: Held, label: str, role: str, answer: Any) -> None:  # noqa: F811
    """The promises that every answer keeps."""
    reported = b"".join(answer) if getattr(answer, "streaming", False) else answer.content
    documented = set(operations()[label].definition.raw["responses"])
    family = f"{answer.status_code // 100}XX"
    where = f"{label} as {role}: {answer.status_code} {reported[:300]!r}"
    assert {str(answer.status_code), family} & documented, f"not documented: {where}"
    if answer.status_code >= 400:
        said = json.loads(reported)
        assert said["code"] in CATALOGUE and said["code"] != "internal", where
        assert set(said) == {"code", "message", "hint", "responsible", "retry", "facts", "reference"}, where
    if role not in AGENTS:
        assert answer.status_code >= 400, where
        refused_first = ("request.too_large", "request.cut_off", "blob.frame_truncated")
        gate = said["code"].startswith("auth.") or said["code"] in refused_first
        assert gate or label.endswith("/enrol"), where
    if role not in MEMBERS:
        for secret in (held.scene.run.manifest_hash, held.scene.anna.site.name, held.scene.anna.key.public):
            assert secret.encode() not in reported, f"{secret} is not for {role}: {where}"
    if role != "St. Anna":
        assert SEALED not in reported, where


def made(label: str, examples: int) -> list[tuple[Any, bool]]:
    """Requests of one operation, the same every time; and whether its path is to name things that exist."""
    found: list[tuple[Any, bool]] = []

    @seed(11)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=requests(operations()[label]), real=st.sampled_from([True, True, False]))
    def draw(case: Any, real: bool) -> None:
        found.append((case, real))

    draw()
    assert found, f"no request of {label}"
    return found


def try_all(held: Held, examples: int) -> list[str]:  # noqa: F811
    """Ask `examples` requests of each operation, each as every role; what was wrong with the answers."""
    path = blobs.path_of(held.blob.sha256)
    path.parent.mkdir(parents=True)
    held.blob.bytes = path.write_bytes(SEALED)
    held.blob.save()
    names, faults = known(held), dict[str, None]()
    roles = {role: speaks_as(held, role) for role in ROLES}
    for label in operations():
        for case, real in made(label, examples):
            asked = request_of(case, names if real else {})
            for role, ask in roles.items():
                try:
                    judge(held, label, role, ask(*asked))
                except AssertionError as fault:
                    faults[str(fault).partition("\n")[0].partition("reference")[0]] = None
    return list(faults)


def request_of(case: Any, names: dict[str, list[str]]) -> tuple[str, str, bytes | None, dict[str, str]]:
    """The request of a case of schemathesis, with things in its path that exist where `names` has them."""
    from schemathesis.core import NotSet

    path = case.path
    for name, value in (case.path_parameters or {}).items():
        path = path.replace("{" + name + "}", quote(str(names.get(name, [value])[0]), safe=""))
    query = {name: value for name, value in (case.query or {}).items() if value is not None}
    body = None
    if isinstance(case.body, bytes):
        body = case.body
    elif not isinstance(case.body, NotSet):
        body = json.dumps(case.body).encode()
    headers = {
        name: value
        for name, value in (case.headers or {}).items()
        if isinstance(value, str) and value.isascii() and value.isprintable()
    }
    return case.method, path + (f"?{urlencode(query, doseq=True)}" if query else ""), body, headers


def test_whoever_asks_whatever_the_schema_names_hears_a_documented_answer(held: Held) -> None:  # noqa: F811
    assert len(operations()) == 41
    assert not (faults := try_all(held, 3)), "\n".join(faults)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_requests_of_every_kind_are_answered_as_documented(held: Held) -> None:  # noqa: F811
    assert not (faults := try_all(held, LONG)), "\n".join(faults)
