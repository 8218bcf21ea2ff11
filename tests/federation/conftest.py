"""The cast and the things that every test of the control plane needs.

Olga operates. Lena leads a study, Ludo leads another. Alice is the admin of St. Anna, Bob of St. Barbara, and
both hospitals take part in Lena's study; Carol's St. Clara takes part in nothing. Audrey audits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contracts.policy import SgxReference
from federation.attestation import references
from federation.attestation.models import Root
from federation.people.models import Role, User
from federation.studies import services
from federation.studies.models import Study
from federation.studies.plan import Plan
from tests.federation.cast import MODEL, Hospital, make_dataset, make_hospital, make_person
from tests.support.proofs import freeze as freeze_tried
from tests.support.proofs import made_proof


@pytest.fixture(autouse=True)
def state_folder(settings: Any, tmp_path: Path) -> Path:
    """Every test has a state folder, and with it a development root and a log key, of its own."""
    folder = tmp_path / "fedslice-tests-state"
    folder.mkdir()
    settings.STATE_DIR = folder
    settings.DEVELOPMENT_ROOT_DIR = folder / "development-root"
    return folder


@pytest.fixture
def anna(db: None) -> Hospital:
    return make_hospital("St. Anna")


@pytest.fixture
def barbara(db: None) -> Hospital:
    return make_hospital("St. Barbara")


@pytest.fixture
def clara(db: None) -> Hospital:
    return make_hospital("St. Clara")


@pytest.fixture
def olga(db: None) -> User:
    return make_person("olga@coordinator.example", Role.OPERATOR)


@pytest.fixture
def lena(db: None) -> User:
    return make_person("lena@university.example", Role.LEAD)


@pytest.fixture
def ludo(db: None) -> User:
    return make_person("ludo@university.example", Role.LEAD)


@pytest.fixture
def audrey(db: None) -> User:
    return make_person("audrey@authority.example", Role.AUDITOR)


@pytest.fixture
def alice(anna: Hospital) -> User:
    return make_person("alice@anna.example", Role.SITE_ADMIN, anna.site)


@pytest.fixture
def bob(barbara: Hospital) -> User:
    return make_person("bob@barbara.example", Role.SITE_ADMIN, barbara.site)


@pytest.fixture
def carol(clara: Hospital) -> User:
    return make_person("carol@clara.example", Role.SITE_ADMIN, clara.site)


@pytest.fixture
def reference_values(db: None) -> None:
    for number, program in enumerate(("aggregator", "client_slice")):
        value = SgxReference(program=program, mrenclave=f"{number + 1:064x}")  # type: ignore[arg-type]
        references.add(None, value, root=Root.DEVELOPMENT, reason="for this test")


@pytest.fixture
def base_model(db: None) -> None:
    services.register_base_model(MODEL, made_proof())


@pytest.fixture
def draft(lena: User, anna: Hospital, barbara: Hospital, reference_values: None, base_model: None) -> Study:
    """Lena's study with a dataset of St. Anna and one of St. Barbara, ready to be frozen."""
    return services.create_study(
        lena,
        name="Triage",
        purpose="Route messages",
        plan=Plan(model=MODEL),
        datasets=[make_dataset(anna.site), make_dataset(barbara.site)],
    )


@pytest.fixture
def frozen(draft: Study, lena: User) -> Study:
    freeze_tried(lena, draft)
    return draft


@pytest.fixture
def ready(frozen: Study, anna: Hospital, barbara: Hospital) -> Study:
    for hospital in (anna, barbara):
        services.sign_approval(hospital.as_agent(), frozen.manifest_hash, hospital.sign(frozen.manifest_hash))
    frozen.refresh_from_db()
    return frozen
