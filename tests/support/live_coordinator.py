"""The real control plane behind pytest-django's live server, as agents reach it over HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attestation.measurement import measure
from contracts.policy import SgxReference
from federation.attestation import log, references
from federation.attestation.models import Root
from federation.datasets.models import Dataset
from federation.people.models import Role
from federation.sites import services as site_services
from federation.sites.models import Site
from federation.studies import services
from federation.studies.models import Study
from federation.studies.plan import Plan
from tests.federation.cast import MODEL, make_person
from tests.support.proofs import freeze as freeze_tried
from tests.support.proofs import made_proof


def set_up(live_server: Any, settings: Any, folder: Path) -> str:
    """With a base model and reference values; its address. `folder` is new."""
    folder.mkdir()
    settings.STATE_DIR = folder
    settings.DEVELOPMENT_ROOT_DIR = folder / "development-root"
    settings.PUBLIC_URL = live_server.url
    for program in ("aggregator", "client_slice"):
        value = SgxReference(program=program, mrenclave=measure(program))  # type: ignore[arg-type]
        references.add(None, value, root=Root.DEVELOPMENT, reason="for this test")
    services.register_base_model(MODEL, made_proof())
    address: str = live_server.url
    return address


def token_for(name: str) -> tuple[Site, str]:
    """A named hospital, and the token of its enrolment command."""
    site = Site.objects.create(name=name)
    admin = make_person(f"admin@{name.lower().replace(' ', '')}.example", Role.SITE_ADMIN, site)
    return site, site_services.enrolment_command(admin, site).rsplit(" ", 1)[1]


def enrolment(coordinator: str, token: str, *how: str) -> tuple[str, ...]:
    """The enrolment command; `how` says how its approval key is kept."""
    return ("enrol", "--coordinator", coordinator, "--log-key", log.key_fingerprint(), "--token", token, *how)


def notes(file: Path, *more: dict[str, str]) -> Path:
    """Sixty rows of two labels, and these, as JSON lines."""
    rows: Sequence[dict[str, str]] = [
        {"text": f"note {n}", "label": "red" if n % 2 else "green"} for n in range(60)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in (*rows, *more)))
    return file


def freeze() -> Study:
    """A lead's study over all published datasets, frozen: the hospitals are asked."""
    lena = make_person("lena@university.example", Role.LEAD)
    study = services.create_study(
        lena,
        name="Triage",
        purpose="Route messages",
        plan=Plan(model=MODEL),
        datasets=list(Dataset.objects.all()),
    )
    freeze_tried(lena, study)
    study.refresh_from_db()
    return study
