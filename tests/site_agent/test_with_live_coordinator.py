"""The site's commands against the real control plane, over HTTP: enrol, check, dataset, approve."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from attestation.measurement import measure
from contracts.policy import SgxReference
from federation.attestation import log, references
from federation.attestation.models import Root
from federation.datasets.models import Dataset
from federation.people.models import Role, User
from federation.sites import services as site_services
from federation.sites.models import Site, SiteState
from federation.studies import services
from federation.studies.models import Approval, Study, StudyState
from federation.studies.plan import Plan
from site_agent import cli
from site_agent.datasets.catalogue import Catalogue
from site_agent.state import State
from tests.federation.cast import MODEL, make_person
from tests.support.installation import DEVELOPMENT, NAMED
from tests.support.proofs import made_proof

CANARY = "canary-patient-4711"


class Agent:
    """A hospital's terminal: its state folder, and the commands typed there."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str]:
        self._capsys.readouterr()
        status = cli.main(["--state", str(self.folder), *arguments])
        shown = self._capsys.readouterr()
        return status, shown.out + shown.err


@pytest.fixture
def coordinator(live_server: Any, settings: Any, tmp_path: Path) -> str:
    """A coordinator with a base model and reference values, at this address."""
    folder = tmp_path / "coordinator"
    folder.mkdir()
    settings.STATE_DIR = folder
    settings.DEVELOPMENT_ROOT_DIR = folder / "development-root"
    settings.PUBLIC_URL = live_server.url
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for program in ("aggregator", "client_slice"):
        value = SgxReference(program=program, mrenclave=measure(program))  # type: ignore[arg-type]
        references.add(None, value, root=Root.DEVELOPMENT, reason="for this test")
    services.register_base_model(MODEL, made_proof())
    return live_server.url


def enrolment(coordinator: str, token: str) -> tuple[str, ...]:
    """The arguments of the enrolment command."""
    return (
        "enrol",
        "--coordinator",
        coordinator,
        "--log-key",
        log.key_fingerprint(),
        "--token",
        token,
        DEVELOPMENT,
    )


def token_for(name: str) -> tuple[Site, str]:
    """A named hospital, and the token of its enrolment command."""
    site = Site.objects.create(name=name)
    admin = make_person(f"admin@{name.lower().replace(' ', '')}.example", Role.SITE_ADMIN, site)
    return site, site_services.enrolment_command(admin, site).rsplit(" ", 1)[1]


def write_notes(file: Path) -> Path:
    rows = [{"text": f"{CANARY} note {n}", "label": "red" if n % 2 else "green"} for n in range(60)]
    rows += [{"text": f"{CANARY} rare {n}", "label": "rare"} for n in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_hospital_enrols_offers_a_dataset_and_approves(
    coordinator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agents: dict[str, Agent] = {}
    for name in ("St. Anna", "St. Barbara"):
        site, token = token_for(name)
        agents[name] = agent = Agent(tmp_path / name, capsys)
        status, text = agent(*enrolment(coordinator, token))
        assert status == 0 and f'Enrolled as "{name}"' in text
        site.refresh_from_db()
        key = State.open(agent.folder).key
        assert (site.state, site.public_key) == (SiteState.ACTIVE, key.public)
        assert (agent.folder / "platform" / "pck-chain.pem").exists()

        status, text = agent(*enrolment(coordinator, token))
        assert status == 0 and "enrolled already" in text
        assert State.open(agent.folder).key.public == key.public

    agent = agents["St. Anna"]
    status, text = agent("check")
    assert status == 0, text
    assert re.search(r"coordinator +ok", text) and re.search(r"clock +ok", text)

    status, text = agent("dataset", "add", str(write_notes(tmp_path / "notes.jsonl")), *NAMED, "--yes")
    assert status == 0 and "Published as" in text and "hidden" in text
    stored = Dataset.objects.get(site__name="St. Anna")
    assert stored.card["labels"]["rare"] is None and stored.rows == 63
    assert stored.card["public"] is False
    assert list(stored.card["labels"].values()).count(None) == 2
    assert CANARY not in json.dumps(stored.card)
    agents["St. Barbara"]("dataset", "add", str(tmp_path / "notes.jsonl"), *NAMED, "--yes")
    digests = set(Dataset.objects.values_list("digest", flat=True))
    assert len(digests) == 2, "equal datasets of two sites must not be seen to be equal"

    study = freeze()
    for name, agent in agents.items():
        said = ("--yes", "--confirm-members", "--accept", "unbounded", "--hash", study.manifest_hash or "")
        status, text = agent("approve", *said)
        assert status == 0 and study.name in text, text
        approval = Approval.objects.get(site__name=name, manifest_hash=study.manifest_hash)
        assert approval.signature
    study.refresh_from_db()
    assert study.state == StudyState.READY
    assert "approved already" in agents["St. Anna"]("approve")[1]

    status, text = agents["St. Anna"]("dataset", "remove", "notes")
    assert (status, "dataset.in_use" in text) == (1, True)
    status, text = agents["St. Anna"]("dataset", "remove", "notes", "--force")
    assert (status, "card.in_use" in text) == (1, True)
    assert [dataset.name for dataset in Catalogue(State.open(agents["St. Anna"].folder)).all()] == ["notes"]


def freeze() -> Study:
    lena: User = make_person("lena@university.example", Role.LEAD)
    study = services.create_study(
        lena,
        name="Triage",
        purpose="Route messages",
        plan=Plan(model=MODEL),
        datasets=list(Dataset.objects.all()),
    )
    services.freeze(lena, study)
    study.refresh_from_db()
    return study


def test_a_wrong_or_used_token_enrols_nobody(
    coordinator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, token = token_for("St. Anna")
    stranger = Agent(tmp_path / "stranger", capsys)
    status, text = stranger(*enrolment(coordinator, "wrong"))
    assert (status, "enrolment.unknown_token" in text) == (1, True)
    assert not State.open(stranger.folder).enrolled
    assert Agent(tmp_path / "anna", capsys)(*enrolment(coordinator, token))[0] == 0
    status, text = stranger(*enrolment(coordinator, token))
    assert (status, "enrolment.token_used" in text) == (1, True)
    assert not State.open(stranger.folder).enrolled
    site.refresh_from_db()
    assert site.public_key == State.open(tmp_path / "anna").key.public


def test_a_dataset_is_withdrawn_and_its_rows_deleted(
    coordinator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, token = token_for("St. Anna")
    agent = Agent(tmp_path / "anna", capsys)
    agent(*enrolment(coordinator, token))
    notes = write_notes(tmp_path / "notes.jsonl")
    status, text = agent("dataset", "add", str(notes), "--no-publish", "--name", "late", "--public", *NAMED)
    assert status == 0 and "PLAINTEXT baselines may train on it" in text
    assert Dataset.objects.count() == 0
    assert "not published" in agent("dataset", "list")[1]
    assert agent("dataset", "publish", "late")[0] == 0
    assert agent("dataset", "publish", "late")[0] == 0, "publishing twice is the same as once"
    assert Dataset.objects.get(withdrawn_at=None).card["public"] is True
    status, text = agent("dataset", "add", str(notes), "--name", "late", *NAMED, "--yes")
    assert (status, "dataset.name_taken" in text) == (1, True)
    assert agent("dataset", "remove", "late")[0] == 0
    assert Dataset.objects.filter(withdrawn_at=None).count() == 0
    assert [path.name for path in (agent.folder / "datasets").iterdir()] == ["catalogue.json"]


def test_a_suspended_site_reads_why(
    coordinator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, token = token_for("St. Anna")
    agent = Agent(tmp_path / "anna", capsys)
    agent(*enrolment(coordinator, token))
    Site.objects.filter(pk=site.pk).update(state=SiteState.SUSPENDED)
    status, text = agent("check")
    assert status == 1 and re.search(r"coordinator +FAIL", text)
    status, text = agent("approve")
    assert (status, "auth.site_suspended" in text) == (1, True)
