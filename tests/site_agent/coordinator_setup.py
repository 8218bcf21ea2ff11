"""Run inside an installation (`manage.py shell`): hospitals with tokens, a frozen study, its launch."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.db import connection
from django.test import Client

from enclave_jobs.runs import services as runs
from federation.datasets.models import Dataset
from federation.people.models import Role, User
from federation.sites import services as site_services
from federation.sites.models import Site
from federation.studies import services
from federation.studies.models import Study
from federation.studies.plan import Plan
from tests.federation.cast import make_person
from tests.support.proofs import freeze as freeze_tried

LENA = "lena@university.example"


def hospital(name: str) -> str:
    """A named hospital; its enrolment command."""
    site = Site.objects.create(name=name)
    admin = make_person(f"{name}@hospitals.example", Role.SITE_ADMIN, site)
    return site_services.enrolment_command(admin, site)


def freeze(plan: dict[str, Any]) -> str:
    """A study over all datasets on offer; its manifest's hash."""
    lena = User.objects.filter(email=LENA).first() or make_person(LENA, Role.LEAD)
    datasets = list(Dataset.objects.filter(withdrawn_at=None))
    study = services.create_study(lena, name="Triage", purpose="Test", plan=Plan(**plan), datasets=datasets)
    freeze_tried(lena, study)
    study.refresh_from_db()
    return study.manifest_hash or ""


def launch() -> str:
    """Launch the newest study; the run's id."""
    return runs.launch(User.objects.get(email=LENA), Study.objects.latest("created_at")).pk


def pages(paths: list[str]) -> list[str]:
    """What the lead sees there."""
    browser = Client(SERVER_NAME="localhost")
    browser.force_login(User.objects.get(email=LENA))
    found = [browser.get(path) for path in paths]
    assert [response.status_code for response in found] == [200] * len(paths)
    return [response.content.decode() for response in found]


def rows(query: str, values: list[Any]) -> list[dict[str, Any]]:
    """What a query finds; JSON comes as text."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def main(asked: dict[str, Any]) -> None:
    verbs = {"hospital": hospital, "freeze": freeze, "launch": launch, "pages": pages, "rows": rows}
    sys.stdout.write("\n" + json.dumps(verbs[asked.pop("verb")](**asked), default=str) + "\n")
