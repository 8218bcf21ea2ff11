"""A hospital makes the prepared model itself, once, and takes no part where another one is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import UNSET

from contracts.manifest import Masking, ModelSpec
from contracts.refusal import Refusal
from enclave_host.pinning import pin
from site_agent.methods.method_1 import run_session
from site_agent.methods.method_1.prepared import PreparedFolder
from site_agent.methods.method_1.run_session import RunSession
from tests.programs.conftest import LABELS, make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    make_model(folder)
    return folder


def manifest(model: Path, prepared: Any = UNSET, **changes: Any) -> Any:
    spec = {"source": "tiny", "task": "sequence-classification", "files": pin(model), "labels": LABELS}
    return SimpleNamespace(
        model=ModelSpec(**{**spec, "max_tokens": 16, **changes}), masking=Masking(prepared=prepared)
    )


def handed(folder: PreparedFolder, model: Path) -> tuple[list[Path], list[str]]:
    """The files that a run gets, and what was told meanwhile."""
    files: list[Path] = []
    stages: list[str] = []
    folder.hand_in(model, lambda stage, *_: stages.append(stage), files.append)
    return files, stages


def refused(folder: PreparedFolder, model: Path) -> Refusal:
    with pytest.raises(Refusal) as caught:
        handed(folder, model)
    return caught.value


def test_it_is_made_once_for_all_runs_and_another_hash_is_refused(model: Path, tmp_path: Path) -> None:
    state = tmp_path / "prepared"
    assert refused(PreparedFolder(state, manifest(model)), model).code == "masking.not_prepared"
    assert not state.exists()  # nothing was computed for it
    said = refused(PreparedFolder(state, manifest(model, "0" * 64)), model)
    assert said.code == "masking.other_preparation" and said.facts["pinned"] == "0" * 64
    right = PreparedFolder(state, manifest(model, said.facts["made"], labels=("a", "b", "c"), max_tokens=9))
    files, stages = handed(right, model)
    assert stages == []  # it was made before, for other labels
    assert {file.name for file in files} == {"index.json", "inside.bin", "table.bin", "weights.int8"}
    assert [folder.name for folder in state.iterdir()] == [right.folder.name]
    right.forget()
    files, stages = handed(right, model)
    assert set(stages) == {"preparing the model"} and all(file.is_file() for file in files)


@pytest.mark.parametrize("left", ["empty", "stray", "cut off"])
def test_what_a_crash_has_left_is_made_again(model: Path, tmp_path: Path, left: str) -> None:
    state = tmp_path / "prepared"
    pinned = refused(PreparedFolder(state, manifest(model, "0" * 64)), model).facts["made"]
    folder = PreparedFolder(state, manifest(model, pinned))
    if left == "empty":
        shutil.rmtree(folder.folder / pinned)
    elif left == "stray":
        (folder.folder / ".nfs0001").touch()
    else:
        (folder.folder / pinned / "table.bin").unlink()
    files, stages = handed(folder, model)
    assert set(stages) == {"preparing the model"} and len([file for file in files if file.is_file()]) == 4


@pytest.mark.parametrize(
    "code", ["masking.prepared_differs", "masking.weights_changed", "slicing.embedding_changed"]
)
def test_what_a_client_slice_calls_damaged_while_it_gets_ready_is_made_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    state = tmp_path / "prepared"
    pinned = refused(PreparedFolder(state, manifest(model, "0" * 64)), model).facts["made"]
    session = RunSession.__new__(RunSession)
    session.manifest = manifest(model, pinned)
    session._state, session._accelerator, session._process = SimpleNamespace(prepared=state), None, None
    session._loaded = False

    def loads(*_: Any) -> Any:
        raise Refusal(code)

    monkeypatch.setattr(run_session, "require_own", lambda _manifest: None)
    monkeypatch.setattr(session, "_made_ready", loads)
    with pytest.raises(Refusal, match=code):
        session.ready(1, lambda *_: None)
    assert handed(PreparedFolder(state, session.manifest), model)[1], "it is not made again"


def test_files_that_are_not_the_pinned_ones_leave_nothing(model: Path, tmp_path: Path) -> None:
    files = pin(model) | {"config.json": "0" * 64}
    folder = PreparedFolder(tmp_path / "prepared", manifest(model, "1" * 64, files=files))
    assert refused(folder, model).code == "model.file_changed"
    assert list((tmp_path / "prepared").iterdir()) == []
