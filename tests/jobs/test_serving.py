"""A trained model in service, a classifier and a decoder: the hospital's own command over a real coordinator
and real split servers."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.row_writing import write_row
from contracts.rows import TextLabel, WholeText, read_row
from site_agent.approvals import approved_manifest
from tests.jobs.asker import Asker
from tests.jobs.conftest import Consortium, ask
from tests.jobs.decoder import make_decoder
from tests.support.installation import wait_for
from tests.support.on_disk import contents

pytestmark = pytest.mark.slow

PLAN = {"method": "method-2", "cut": 1, "attention_ratio": 50.0, "dense_ratio": 50.0, "rounds": 1}
TWO = ("anna", "berta")
CANARY = "canary-7f3a chest pain bleeding"
PROMPT = "patient with chest pain since the morning asks about seizure stroke"
TOKENS = 120


@pytest.fixture(scope="module")
def asker(coordinator: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    run = coordinator.launch(TWO, **PLAN, release="serve-only")
    coordinator.start()
    ended = coordinator.finished(run)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    asker = Asker(coordinator, run, tmp_path_factory.mktemp("anna"))
    assert asker.predict("--text", "chest pain")[0] == 1  # before the lead has switched it on
    coordinator.serve(run)
    yield asker  # the hospitals' agents stay: a new enclave asks them which receipt was last
    coordinator.stop()


@pytest.fixture(scope="module")
def found(asker: Asker) -> dict[str, Any]:
    """The answer to one text, asked while the server was still starting."""
    status, out, err = asker.predict("--run", asker.run, "--text", CANARY, "--json")
    assert status == 0, err
    return json.loads(out)


def test_one_text_gets_a_label_and_probabilities_while_the_server_is_still_starting(
    asker: Asker, found: dict[str, Any]
) -> None:
    assert set(found["probabilities"]) == {"routine", "urgent"}
    assert found["probability"] == max(found["probabilities"].values())
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert asker.use()["texts"] == 1


@pytest.fixture(scope="module")
def answered(asker: Asker) -> tuple[Path, Path]:
    """A file of 400 texts, and the answers to it."""
    rows = [["id", "text"], *([str(n), f"patient with pain number {n % 7}"] for n in range(400))]
    source, whole = asker.folder / "notes.csv", asker.folder / "whole.jsonl"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert asker.predict("--in", str(source), "--out", str(whole))[0] == 0
    return source, whole


@pytest.mark.long
def test_a_file_is_answered_across_kill_minus_nine_of_the_server_as_if_nothing_had_happened(
    asker: Asker, answered: tuple[Path, Path]
) -> None:
    (source, whole), cut = answered, asker.folder / "cut.jsonl"
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


@pytest.mark.long
def test_a_stopped_file_goes_on_after_its_answers_and_another_files_are_not_mixed_in(
    asker: Asker, answered: tuple[Path, Path]
) -> None:
    (source, whole), target = answered, asker.folder / "stopped.jsonl"
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


def test_neither_the_text_nor_its_features_nor_its_answer_lie_at_the_coordinator(
    asker: Asker, found: dict[str, Any]
) -> None:
    from enclave.slicing.models import load
    from enclave.slicing.questions import ask_about
    from enclave.slicing.split import Front

    manifest = approved_manifest(asker.state, asker.consortium.run(asker.run)["manifest_hash"])
    model, tokenizer = load(asker.consortium.model, manifest.model)
    question = ask_about(Front(model, 1), [tokenizer(CANARY)["input_ids"]], 0)
    probability = str(found["probability"])
    searched = 0
    for file, content in contents(asker.consortium.installation.folder):
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


@pytest.fixture
def no_sealing_key(coordinator: Consortium) -> Iterator[None]:
    """The server's platform is as a TDX machine is: no key outlives an enclave."""
    file = coordinator.installation.folder / "supervisor" / "platform" / "sealing.secret"
    secret = file.read_bytes()
    file.write_bytes(b"")
    yield
    file.write_bytes(secret)


@pytest.mark.long
@pytest.mark.timeout(600)  # a run of its own, and two enclaves that wait for the sites
@pytest.mark.usefixtures("no_sealing_key")
def test_without_a_sealing_key_the_hospitals_shares_bring_the_model_back_also_in_mid_session(
    coordinator: Consortium, tmp_path: Path
) -> None:
    run = coordinator.launch(**PLAN, release="serve-only", key_shares=2)
    coordinator.start()
    ended = coordinator.finished(run)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    coordinator.stop()
    asker = Asker(coordinator, run, tmp_path / "anna")
    coordinator.serve(run)
    wait_for(lambda: "serving.waits_for_sites" in coordinator.events(run), 60, "shares are asked for")
    assert asker.service()["state"] == "starting"

    # Berta names a receipt of her own, first of all: the shares of the others bring the model back.
    berta = coordinator.hospitals["berta"]
    berta.last_receipt = "e" * 64
    berta.start()
    done = "select * from enclave_jobs_job where run_id = ? and kind = 'share' and state = 'done'"
    wait_for(lambda: coordinator.rows(done, run), 60, "Berta's share")
    for name in ("anna", "clara"):
        coordinator.hospitals[name].start()
    source = tmp_path / "notes.txt"
    source.write_text("".join(f"patient with pain number {n % 7}\n" for n in range(400)))
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    status, _, err = asker.predict("--run", run, "--in", str(source), "--out", str(whole))
    assert status == 0, err

    process = asker.start("--run", run, "--in", str(source), "--out", str(cut))
    part = cut.with_name("cut.jsonl.part")
    wait_for(lambda: part.exists() and part.stat().st_size > 0, 60, "the first answers")
    for pid in coordinator.pids("enclave.programs.split_server"):
        if f"mailbox {coordinator.installation.folder}/supervisor/enclaves/{run.lower()}" in command(pid):
            os.kill(pid, signal.SIGKILL)
    _out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert cut.read_bytes() == whole.read_bytes() and "asking again" in err
    asked = coordinator.events(run).count("serving.waits_for_sites")
    shares = coordinator.rows("select * from enclave_jobs_job where run_id = ? and kind = 'share'", run)
    assert asked == 2 and sum(row["state"] == "done" for row in shares) >= 2 * asked
    coordinator.stop()


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.fixture(scope="module")
def writer(coordinator: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """Anna, who asks a decoder: a token stream with KV caches on both sides."""
    folder = tmp_path_factory.mktemp("decoder")
    model = make_decoder(folder / "model")
    coordinator.installation.manage(
        "register_model", str(model), "--name", "decoder", "--task", "causal-lm", "--targets", "q_proj"
    )
    for name, hospital in coordinator.hospitals.items():
        notes = [read_row(line) for line in hospital.rows.read_bytes().splitlines()]
        hospital.model, hospital.rows = model, folder / f"{name}.jsonl"
        hospital.rows.write_bytes(
            b"".join(
                write_row(WholeText(note.text, note.split)) for note in notes if isinstance(note, TextLabel)
            )
        )
    run = coordinator.launch(TWO, **PLAN, task="causal-lm", release="serve-only", model=str(model))
    coordinator.start()
    ended = coordinator.finished(run)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    coordinator.serve(run)
    writer = Asker(coordinator, run, folder / "anna")
    writer.model = model
    yield writer
    coordinator.stop()


def written(writer: Asker, *more: str) -> str:
    arguments = ("--run", writer.run, "--text", PROMPT, "--json", "--temperature", "2", "--seed", "5", *more)
    status, out, err = writer.predict(*arguments)
    assert status == 0, err
    return json.loads(out)["text"]


def test_a_prompt_is_gone_on_with_token_by_token_and_each_token_is_counted(writer: Asker) -> None:
    text = written(writer, "--max-new-tokens", "9")
    assert len(text.split()) == 9
    # Sixteen are asked for: whoever counts the questions does not learn that the answer has nine.
    assert writer.use()["tokens"] == len(PROMPT.split()) + 15
    # The same draws, and as many of them, where the answer is to end earlier.
    first, second, *_rest = text.split()
    assert written(writer, "--max-new-tokens", "9", "--stop", f" {second}").split() == [first]
    assert writer.use()["tokens"] == 2 * (len(PROMPT.split()) + 15)


@pytest.mark.long
def test_kill_minus_nine_in_mid_stream_replays_the_features_and_the_text_is_the_same(writer: Asker) -> None:
    more = ("--max-new-tokens", str(TOKENS))
    whole = written(writer, *more)
    before = writer.use()["tokens"]
    process = writer.start(
        "--run", writer.run, "--text", PROMPT, "--json", "--temperature", "2", "--seed", "5", *more
    )
    wait_for(lambda: writer.use()["tokens"] > before + len(PROMPT.split()) + 10, 60, "the stream's beginning")
    writer.consortium.kill("enclave.programs.split_server")
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    assert "asking again" in err
    assert json.loads(out)["text"] == whole


def test_neither_prompt_nor_features_nor_the_written_text_lie_at_the_coordinator(writer: Asker) -> None:
    import torch

    from enclave.slicing.models import load
    from enclave.slicing.split import Front, Session

    text = written(writer, "--max-new-tokens", "30")
    manifest = approved_manifest(writer.state, writer.consortium.run(writer.run)["manifest_hash"])
    model, tokenizer = load(writer.model, manifest.model)
    ids = tokenizer(PROMPT)["input_ids"]
    features = Session(Front(model, 1)).step(torch.tensor([ids]))[0].to(torch.bfloat16)
    tokens = torch.tensor(tokenizer(text)["input_ids"][:8], dtype=torch.int32)
    needles = {
        "prompt": PROMPT.encode(),
        "text": " ".join(text.split()[:8]).encode(),
        "features": features.view(torch.int16).numpy().tobytes()[-64:],
        "tokens": tokens.numpy().tobytes(),
    }
    files = []
    for file, content in contents(writer.consortium.installation.folder):
        files.append(file)
        assert not [name for name, needle in needles.items() if needle in content], file
    assert any("sqlite" in file.name for file in files) and any("logs" in file.parts for file in files)
