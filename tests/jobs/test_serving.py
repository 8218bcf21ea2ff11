"""A trained model in service: the hospital's own command over a real coordinator and a real split server."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from enclave.manifest import APPROVAL_DOMAIN, approval_payload
from site_agent.approvals import Approved
from site_agent.files import create_private, private_folder
from site_agent.state import Config, State
from tests.jobs.conftest import Consortium, ask
from tests.support.installation import wait_for

pytestmark = pytest.mark.slow

PLAN = {"method": "method-2", "cut": 1, "attention_ratio": 50.0, "dense_ratio": 50.0, "rounds": 1}
CANARY = "canary-7f3a chest pain bleeding"


class Asker:
    """St. Anna with the state folder that its agent would have, and the run whose model is served."""

    def __init__(self, consortium: Consortium, run: str, folder: Path) -> None:
        self.consortium, self.run, self.folder = consortium, run, private_folder(folder)
        hospital = consortium.hospitals["anna"]
        state = State(private_folder(folder / "state"))
        create_private(state.folder / "site.key", hospital.api.key.to_bytes().hex().encode())
        state.save(Config(consortium.installation.url, "anna", "St. Anna", insecure_http=True))
        row = consortium.run(run)
        signature = hospital.api.key.sign(APPROVAL_DOMAIN, approval_payload(row["manifest_hash"], "anna"))
        approved = Approved(row["manifest"], row["manifest_hash"], signature, int(time.time()))
        kept = private_folder(state.approved) / f"{row['manifest_hash']}.json"
        create_private(kept, msgspec.json.encode(approved))
        self.state = state

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "site_agent", "--state", str(self.state.folder), "predict"]
        return subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def predict(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=150)
        return process.returncode, out, err

    def service(self) -> dict[str, Any]:
        return self.consortium.rows("select * from serving_service where run_id = ?", self.run)[0]

    def use(self) -> dict[str, Any]:
        return self.consortium.rows("select * from serving_use where site_id = 'anna'")[0]

    def server(self) -> int:
        (pid,) = self.consortium.pids("enclave.programs.split_server")
        return pid


@pytest.fixture(scope="module")
def asker(coordinator: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    run = coordinator.launch(**PLAN, release="serve-only")
    coordinator.start()
    ended = coordinator.finished(run)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    coordinator.stop()
    asker = Asker(coordinator, run, tmp_path_factory.mktemp("anna"))
    assert asker.predict("--text", "chest pain")[0] == 1  # before the lead has switched it on
    ask(coordinator.installation, verb="serve", run=run)
    yield asker


def test_one_text_gets_a_label_and_probabilities_while_the_server_is_still_starting(asker: Asker) -> None:
    status, out, err = asker.predict("--run", asker.run, "--text", CANARY, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert set(found["probabilities"]) == {"routine", "urgent"}
    assert found["probability"] == max(found["probabilities"].values())
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert asker.use()["texts"] == 1


def test_a_file_is_answered_across_kill_minus_nine_of_the_server_as_if_nothing_had_happened(
    asker: Asker,
) -> None:
    rows = [["id", "text"], *([str(n), f"patient with pain number {n % 7}"] for n in range(400))]
    source = asker.folder / "notes.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    whole, cut = asker.folder / "whole.jsonl", asker.folder / "cut.jsonl"
    assert asker.predict("--in", str(source), "--out", str(whole))[0] == 0

    first = asker.server()
    process = asker.start("--in", str(source), "--out", str(cut))
    part = cut.with_name("cut.jsonl.part")
    wait_for(lambda: part.exists() and part.stat().st_size > 0, 60, "the first answers")
    asker.consortium.kill("enclave.programs.split_server")
    _out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    assert cut.read_bytes() == whole.read_bytes()
    assert len(whole.read_text().splitlines()) == 400 and not part.exists()
    if "asking again" in err:  # else the last answer had come before the kill
        assert asker.server() != first


def test_a_stopped_file_goes_on_after_its_answers_and_another_files_are_not_mixed_in(asker: Asker) -> None:
    source, whole = asker.folder / "notes.csv", asker.folder / "whole.jsonl"
    target = asker.folder / "stopped.jsonl"
    part = target.with_name("stopped.jsonl.part")
    process = asker.start("--in", str(source), "--out", str(target))
    wait_for(lambda: part.exists() and part.stat().st_size > 0, 60, "the first answers")
    process.kill()
    process.communicate()
    with part.open("ab") as file:
        file.write(b'{"row": 9')  # a line that was torn by the end
    other = asker.folder / "b.txt"
    other.write_text("travel vaccine\n")
    status, _, err = asker.predict("--in", str(other), "--out", str(target))
    assert status == 1 and "predict.other_output" in err
    status, _, err = asker.predict("--in", str(source), "--out", str(target))
    assert status == 0 and "answered already" in err
    assert target.read_bytes() == whole.read_bytes()


def test_a_revoked_hospital_is_told_so_and_asks_again_once_it_is_allowed(asker: Asker) -> None:
    ask(asker.consortium.installation, verb="revoke", run=asker.run, site="anna", word="revoke")
    status, out, err = asker.predict("--run", asker.run, "--text", "pain")
    assert (status, out) == (1, "") and "serving" in err
    ask(asker.consortium.installation, verb="revoke", run=asker.run, site="anna", word="allow")
    assert asker.predict("--run", asker.run, "--text", "pain")[0] == 0


def test_neither_the_text_nor_its_features_nor_its_answer_lie_at_the_coordinator(asker: Asker) -> None:
    from enclave.slicing.models import load
    from enclave.slicing.questions import ask_about
    from enclave.slicing.split import Front
    from site_agent.approvals import approved_manifest

    status, out, _ = asker.predict("--text", CANARY, "--json")
    assert status == 0
    manifest = approved_manifest(asker.state, asker.consortium.run(asker.run)["manifest_hash"])
    model, tokenizer = load(asker.consortium.model, manifest.model)
    question = ask_about(Front(model, 1), [tokenizer(CANARY)["input_ids"]], 0)
    probability = str(json.loads(out)["probability"])
    searched = 0
    for file in Path(asker.consortium.installation.folder).rglob("*"):
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            searched += len(content)
            for secret in (b"canary-7f3a", question[-64:], probability.encode()):
                assert secret not in content, file
    assert searched > 100_000


def test_the_run_can_be_listed_and_a_wrong_name_or_a_missing_file_is_refused(asker: Asker) -> None:
    status, out, _ = asker.predict("--list")
    assert status == 0 and asker.run in out
    assert "serving.not_here" in asker.predict("--run", "nothing", "--text", "pain")[2]
    status, _, err = asker.predict("--in", "/nowhere.txt", "--out", str(asker.folder / "x"))
    assert status == 1 and "predict.nothing" in err
    assert asker.predict("--in", "/nowhere.txt")[0] == 2
