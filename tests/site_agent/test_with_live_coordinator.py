"""The site's commands against the real control plane, over HTTP: enrol, check, dataset, approve."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from federation.datasets.models import Dataset
from federation.sites.models import Site, SiteState
from federation.studies.models import Approval, StudyState
from site_agent.datasets.catalogue import Catalogue
from site_agent.state import State
from tests.support import live_coordinator, namespaces
from tests.support.installation import DEVELOPMENT, NAMED
from tests.support.live_coordinator import freeze, token_for
from tests.support.terminal import Terminal

CANARY = "canary-patient-4711"


@pytest.fixture
def coordinator(live_server: Any, settings: Any, tmp_path: Path) -> str:
    """A coordinator with a base model and reference values, at this address."""
    return live_coordinator.set_up(live_server, settings, tmp_path / "coordinator")


def enrolment(coordinator: str, token: str) -> tuple[str, ...]:
    return live_coordinator.enrolment(coordinator, token, DEVELOPMENT)


def write_notes(file: Path) -> Path:
    marked = [{"text": f"{CANARY} note {n}", "label": "rare"} for n in range(3)]
    return live_coordinator.notes(file, *marked)


def test_a_hospital_enrols_offers_a_dataset_and_approves(coordinator: str, tmp_path: Path) -> None:
    agents: dict[str, Terminal] = {}
    for name in ("St. Anna", "St. Barbara"):
        site, token = token_for(name)
        agents[name] = agent = Terminal(tmp_path / name)
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


def test_a_wrong_or_used_token_enrols_nobody(coordinator: str, tmp_path: Path) -> None:
    site, token = token_for("St. Anna")
    stranger = Terminal(tmp_path / "stranger")
    status, text = stranger(*enrolment(coordinator, "wrong"))
    assert (status, "enrolment.unknown_token" in text) == (1, True)
    assert not State.open(stranger.folder).enrolled
    assert Terminal(tmp_path / "anna")(*enrolment(coordinator, token))[0] == 0
    status, text = stranger(*enrolment(coordinator, token))
    assert (status, "enrolment.token_used" in text) == (1, True)
    assert not State.open(stranger.folder).enrolled
    site.refresh_from_db()
    assert site.public_key == State.open(tmp_path / "anna").key.public


def test_a_dataset_is_withdrawn_and_its_rows_deleted(coordinator: str, tmp_path: Path) -> None:
    _, token = token_for("St. Anna")
    agent = Terminal(tmp_path / "anna")
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


def test_a_suspended_site_reads_why(coordinator: str, tmp_path: Path) -> None:
    site, token = token_for("St. Anna")
    agent = Terminal(tmp_path / "anna")
    agent(*enrolment(coordinator, token))
    Site.objects.filter(pk=site.pk).update(state=SiteState.SUSPENDED)
    status, text = agent("check")
    assert status == 1 and re.search(r"coordinator +FAIL", text)
    status, text = agent("approve")
    assert (status, "auth.site_suspended" in text) == (1, True)


def test_an_agent_whose_disk_is_full_says_so_waits_and_goes_on(coordinator: str, tmp_path: Path) -> None:
    """On a small disk of its own: filled up before the agent starts, then freed while it waits."""
    program = f"import site_agent.daemon as d; d.REFUSED_SECONDS = 1; {Terminal.program}"
    said, (_, token) = tmp_path / "said", token_for("St. Anna")
    script = """
        mount -t tmpfs -o size=200k,mode=700 t /mnt
        set -- "$PYTHON" -c "$PROGRAM" --state /mnt
        "$@" $ENROLMENT >"$SAID" 2>&1 && rm -r /mnt/log && cat /dev/zero >/mnt/filler 2>/dev/null
        "$@" run >>"$SAID" 2>&1 & agent=$!
        until grep -q no_space "$SAID"; do kill -0 $agent || exit 3; sleep 0.2; done
        rm /mnt/filler
        until [ -s /mnt/log/checkpoint ]; do kill -0 $agent || exit 4; sleep 0.2; done
        kill $agent; wait $agent
    """
    enrol = " ".join(enrolment(coordinator, token))
    done = namespaces.shell(script, PYTHON=sys.executable, PROGRAM=program, ENROLMENT=enrol, SAID=str(said))
    words = said.read_text()
    assert done.returncode == 0, (done, words)
    assert "[agent.no_space]" in words and "Make room" in words and "Traceback" not in words, words
