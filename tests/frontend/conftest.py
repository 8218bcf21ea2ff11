"""Pages are tested with the cast of the control plane's tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from redis import Redis

from enclave_jobs.runs.models import Contribution, Round
from enclave_jobs.runs.services import launch
from federation.attestation import appraisals
from federation.attestation.models import AppraisalRecord, Reference, Review
from federation.notices.models import Notice
from federation.people.models import Invitation, Role, User
from federation.sites.models import Site
from federation.studies import services
from federation.studies.models import BaseModel, Event, Study, Sweep, SweepPoint
from federation.studies.plan import Plan
from federation.threads import services as threads
from tests.federation.cast import MODEL, Hospital, make_dataset, make_person
from tests.federation.conftest import (  # noqa: F401  fixtures
    alice,
    anna,
    audrey,
    barbara,
    base_model,
    bob,
    carol,
    clara,
    draft,
    frozen,
    lena,
    ludo,
    olga,
    ready,
    reference_values,
    state_folder,
)
from tests.federation.development import expected, make_platform
from tests.support import redis_server as redis_server_module


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with redis_server_module.running() as client:
        yield client


@pytest.fixture(autouse=True)
def counters(redis_server: Redis, settings: Any) -> Redis:
    """What is counted of tries; every test begins with none."""
    redis_server.flushall()
    settings.REDIS_URL = redis_server_module.url_of(redis_server)
    return redis_server


EVERYBODY = ("olga", "lena", "ludo", "alice", "carol", "audrey")


@pytest.fixture
def people(
    olga: User,  # noqa: F811
    lena: User,  # noqa: F811
    ludo: User,  # noqa: F811
    alice: User,  # noqa: F811
    carol: User,  # noqa: F811
    audrey: User,  # noqa: F811
) -> dict[str, User]:
    return {"olga": olga, "lena": lena, "ludo": ludo, "alice": alice, "carol": carol, "audrey": audrey}


@pytest.fixture
def colleagues(anna: Hospital) -> dict[str, User]:  # noqa: F811
    """St. Anna's other people: Odile is its data protection officer, Igor its IT, Rita does research."""
    posts = {"odile": "officer", "igor": "it", "rita": "researcher"}
    return {
        who: make_person(f"{who}@anna.example", Role.SITE_ADMIN, anna.site, post=post)
        for who, post in posts.items()
    }


@pytest.fixture
def world(
    ready: Study,  # noqa: F811
    anna: Hospital,  # noqa: F811
    clara: Hospital,  # noqa: F811
    lena: User,  # noqa: F811
    settings: Any,
    tmp_path: Path,
) -> dict[str, Any]:
    """Lena's launched study with St. Anna and St. Barbara, a draft of hers, and two appraisals of St. Anna's
    client slice: one accepted, one of a measurement that nobody has approved."""
    run = launch(lena, ready)
    plan = Plan(model=MODEL)
    draft = services.create_study(  # noqa: F811
        lena, name="A draft", purpose="", plan=plan, datasets=[make_dataset(anna.site, "more")]
    )
    host = make_platform(settings, tmp_path)
    for measurement in (None, "e" * 64):  # one accepted, one that opens a review
        evidence = host.evidence(run, measurement=measurement)
        appraisals.judge(evidence, run=run, expected=expected(evidence), at=int(time.time()), site=anna.site)
    message = threads.answer(lena, ready, anna.site, "Please sign.")
    record = AppraisalRecord.objects.get(verdict="accepted")
    open_round = Round.objects.create(run=run, number=0)
    for site in (anna.site, *Site.objects.filter(name="St. Barbara")):
        Contribution.objects.create(round=open_round, site=site)
    Invitation.objects.create(
        email="dora@hospital.example", role="lead", token_hash="0" * 64, expires=timezone.now()
    )
    dataset = ready.datasets.get(site=anna.site)
    event = Event.objects.filter(study=ready).latest("pk")
    notice = Notice.objects.create(event=event, user=lena, by_mail=False)
    sweep = Sweep.objects.create(name="Ratios", lead=lena)
    SweepPoint.objects.create(sweep=sweep, study=draft, ratio=25, cut=1, select="largest", seed=0)
    return {"site_id": anna.site.pk, "study_id": ready.pk, "draft_id": draft.pk, "run_id": run.pk,
            "dataset_id": dataset.pk, "index": record.log_entry_id, "sha256": record.quote_sha256,
            "reference_id": Reference.objects.order_by("pk")[0].pk, "review_id": Review.objects.get().pk,
            "sweep_id": sweep.pk, "notice_id": notice.pk, "message_id": message.pk,
            "user_id": lena.pk, "invitation_id": Invitation.objects.get().pk,
            "model_id": BaseModel.objects.get().pk, "host": host, "run": run}  # fmt: skip


@pytest.fixture
def lead(lena: User) -> Client:  # noqa: F811
    client = Client()
    client.force_login(lena)
    return client


@pytest.fixture
def shaped(draft: Study) -> Study:  # noqa: F811
    """A draft whose model's shape is on record."""
    from enclave_host.proving.registration import SHAPE
    from tests.slicing.small import config

    shape = {name: getattr(config("bert"), name, None) for name in SHAPE}
    kept = {name: value for name, value in shape.items() if value is not None}
    BaseModel.objects.update(config=kept, parameters=100_000)
    return draft
