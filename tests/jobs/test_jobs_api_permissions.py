"""The jobs' part of the agents' API × everybody: an endpoint without a row here fails.

St. Anna holds the job, the upload and the file; St. Barbara is a member of the run; St. Clara is not.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import Resolver404, resolve

from enclave_jobs.blobs import uploads
from enclave_jobs.blobs.models import Blob, BlobKind, Upload
from enclave_jobs.enclaves.models import Admission
from enclave_jobs.jobs.models import Job
from enclave_jobs.urls import urlpatterns
from federation.attestation.models import LogEntry
from federation.people.models import Role
from federation.sites.models import Site, SiteState
from federation.urls import urlpatterns as every_url
from tests.federation.cast import API, Hospital, make_person
from tests.federation.conftest import state_folder  # noqa: F401  fixture
from tests.jobs.cast import Scene, make_scene

SHA = hashlib.sha256(b"anna's").hexdigest()
FRESH = "f" * 64


@dataclass
class Held:
    """What St. Anna has of the run."""

    scene: Scene
    job: Job
    lease: int
    upload: Upload
    blob: Blob


@pytest.fixture
def held(db: None, settings: Any, tmp_path: Path) -> Held:
    settings.BLOB_DIR = tmp_path / "blobs"
    scene = make_scene()
    job, lease = scene.leased(scene.anna)
    upload = uploads.begin(scene.anna.site, scene.run, SHA, 6)
    blob = Blob.objects.create(
        sha256="b" * 64,
        bytes=5,
        kind=BlobKind.UPDATE,
        owner_site=scene.anna.site,
        run=scene.run,
        complete=True,
    )
    return Held(scene, job, lease, upload, blob)


def order(held: Held) -> dict[str, Any]:
    """An order where nothing was asked for."""
    approval = {"hpke_key": None, "confirmed": [], "signature": "0" * 128}
    return {"run": held.scene.run.pk, "rule": "export", "receipt": "0" * 64, "approval": approval}


Row = tuple[str, str, Callable[[Held], Any], str, str]
ALL, MEMBERS, OWNER = "abc", "ab", "a"
# name: (method, path, body, who is let in, what the others hear). To be let in is to get past the gate: what
# the answer is then depends on a supervisor, which does not run here.
TABLE: dict[str, Row] = {
    "agent-lease": ("post", "lease", lambda held: {}, ALL, ""),
    "agent-job-progress": (
        "post", "jobs/{job}/progress", lambda held: {"lease": held.lease, "stage": "epoch 1"}, OWNER,
        "lease.foreign",
    ),
    "agent-job-result": (
        "post", "jobs/{job}/result", lambda held: {"lease": held.lease, "blob": SHA}, OWNER, "lease.foreign",
    ),
    "agent-job-failure": (
        "post", "jobs/{job}/failure", lambda held: {"lease": held.lease, "code": "internal"}, OWNER,
        "lease.foreign",
    ),
    "agent-run-manifest": ("get", "runs/{run}/manifest", lambda held: None, MEMBERS, "run.unknown"),
    "agent-receipts": ("get", "runs/{run}/receipts", lambda held: None, MEMBERS, "run.unknown"),
    "agent-signer": ("get", f"runs/{{run}}/signers/{FRESH}", lambda held: None, MEMBERS, "run.unknown"),
    "agent-aggregator-evidence": (
        "post", "runs/{run}/aggregator/evidence", lambda held: {"nonce": "0" * 64}, MEMBERS, "run.unknown",
    ),
    "agent-aggregator-challenge": (
        "post", "runs/{run}/aggregator/challenge", lambda held: {}, MEMBERS, "run.unknown",
    ),
    "agent-aggregator-admit": ("post", "runs/{run}/aggregator/admit", lambda held: {}, MEMBERS, ""),
    "agent-releases": ("get", "releases", lambda held: None, ALL, ""),
    "agent-releases:post": ("post", "releases", lambda held: order(held), ALL, ""),
    "agent-serving": ("get", "serving", lambda held: None, ALL, ""),
    "agent-serving-evidence": (
        "post", "runs/{run}/serving/evidence", lambda held: {"nonce": "0" * 64}, MEMBERS, "run.unknown",
    ),
    "agent-serving-open": ("post", "runs/{run}/serving/open", lambda held: {}, MEMBERS, ""),
    "agent-serving-step": (
        "post", "runs/{run}/serving/step",
        lambda held: {"session": "0" * 64, "number": 0, "sealed": "AAAA"}, MEMBERS, "run.unknown",
    ),
    "agent-serving-close": (
        "post", "runs/{run}/serving/close", lambda held: {"session": "0" * 64}, MEMBERS, "run.unknown",
    ),
    "agent-blobs": (
        "post", "blobs", lambda held: {"sha256": FRESH, "bytes": 9, "run": held.scene.run.pk}, MEMBERS,
        "run.unknown",
    ),
    "agent-blob-upload": ("get", "blobs/uploads/{upload}", lambda held: None, OWNER, "blob.unknown"),
    "agent-blob-part": (
        "post", "blobs/uploads/{upload}/parts", lambda held: {"number": 1, "sha256": FRESH}, OWNER,
        "blob.unknown",
    ),
    "agent-blob-whole": ("post", "blobs/uploads/{upload}/whole", lambda held: {}, OWNER, "blob.unknown"),
    "agent-blob-address": ("get", "blobs/{blob}/url", lambda held: None, OWNER, "blob.unknown"),
    "agent-blob": ("get", "blobs/{blob}", lambda held: None, OWNER, "blob.unknown"),
}  # fmt: skip


def names(patterns: Any) -> set[str]:
    """The names of all addresses below."""
    found: set[str] = set()
    for pattern in patterns:
        found |= names(pattern.url_patterns) if hasattr(pattern, "url_patterns") else {str(pattern.name)}
    return found


def test_every_endpoint_has_a_row() -> None:
    assert {str(pattern.name) for pattern in urlpatterns} == {name.partition(":")[0] for name in TABLE}


def test_every_address_of_the_coordinator_is_in_one_of_the_tables() -> None:
    from tests.federation.test_agent_api_permissions import OPEN
    from tests.federation.test_agent_api_permissions import TABLE as CONTROL_PLANE
    from tests.frontend.test_page_permissions import PUBLIC
    from tests.frontend.test_page_permissions import TABLE as PAGES

    control_plane = {name.partition(":")[0] for name in CONTROL_PLANE}
    jobs = {name.partition(":")[0] for name in TABLE}
    assert names(every_url) == jobs | control_plane | OPEN | set(PAGES) | PUBLIC | {"schema"}


def address(held: Held, name: str) -> str:
    given = {"job": held.job.pk, "run": held.scene.run.pk, "upload": held.upload.pk, "blob": held.blob.pk}
    path = TABLE[name][1].format(**given)
    try:
        assert resolve(API + path).url_name == name.partition(":")[0]
    except Resolver404 as error:
        raise AssertionError(f"{name}: {path} leads nowhere") from error
    return path


def ask(held: Held, hospital: Hospital, name: str, **options: Any) -> Any:
    return hospital.call(TABLE[name][0], address(held, name), TABLE[name][2](held), **options)


def records() -> list[Any]:
    """All that an agent's request could have changed."""
    tables = (Job, Upload, Blob, Admission, LogEntry)
    return [list(table.objects.order_by("pk").values()) for table in tables]


@pytest.mark.parametrize(("name", "who"), list(itertools.product(TABLE, "abc")))
def test_an_agent_gets_past_the_gate_of_its_own_and_of_nothing_else(held: Held, name: str, who: str) -> None:
    scene = held.scene
    hospital = {"a": scene.anna, "b": scene.berta, "c": scene.stranger}[who]
    before = records()
    reply = ask(held, hospital, name)
    _method, _path, _body, let_in, code = TABLE[name]
    shut = ("lease.foreign", "run.unknown", "blob.unknown", "blob.foreign", "request.not_found")
    said = reply.json().get("code", "") if reply.status_code >= 400 else ""
    if who in let_in:
        assert reply.status_code not in (401, 405) and said not in shut and not said.startswith("auth.")
        return
    assert reply.status_code >= 400 and records() == before
    if code:
        assert said in (code, "run.unknown")
    assert held.blob.sha256 not in reply.content.decode() and SHA not in reply.content.decode()


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("state", [SiteState.SUSPENDED, SiteState.REVOKED])
def test_a_stopped_site_gets_nothing(held: Held, name: str, state: str) -> None:
    Site.objects.filter(pk=held.scene.anna.site.pk).update(state=state)
    before = records()
    reply = ask(held, held.scene.anna, name)
    assert (reply.status_code, reply.json()["code"]) == (403, f"auth.site_{state}")
    assert records() == before


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(("token", "code"), [("", "auth.missing"), ("not.a.token", "auth.bad_token")])
def test_nobody_gets_nothing(held: Held, name: str, token: str, code: str) -> None:
    reply = ask(held, held.scene.anna, name, token=token)
    assert (reply.status_code, reply.json()["code"]) == (401, code)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("role", [Role.OPERATOR, Role.LEAD, Role.SITE_ADMIN, Role.AUDITOR])
def test_a_person_who_is_signed_in_is_no_agent(held: Held, name: str, role: str) -> None:
    site = held.scene.anna.site if role == Role.SITE_ADMIN else None
    client = Client(raise_request_exception=False)
    client.force_login(make_person("somebody@example.org", role, site))
    reply = getattr(client, TABLE[name][0])(API + address(held, name))
    assert (reply.status_code, reply.json()["code"]) == (401, "auth.missing")
