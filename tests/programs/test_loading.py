"""What a client slice reads from its host: the pinned base model and the site's rows."""

import json
import shutil

import pytest

from contracts.progress import Progress


@pytest.fixture(scope="module")
def world(house, tmp_path_factory, consortium_class):
    world = consortium_class(house, tmp_path_factory.mktemp("loading") / "run")
    world.anna = world.client("anna", load=False)
    yield world
    world.close()


@pytest.fixture
def load_code(world, house, code_of):
    def load_code(**changes):
        arguments = {"model": str(house.model)} | world.rows_of("anna") | changes
        return code_of(world.anna.call, "load", **arguments)

    return load_code


def test_a_model_whose_file_was_changed_is_refused(house, load_code, tmp_path):
    for file in house.files:
        folder = tmp_path / file
        shutil.copytree(house.model, folder)
        content = bytearray((folder / file).read_bytes())
        content[-1] ^= 1
        (folder / file).write_bytes(content)
        assert load_code(model=str(folder)) == "model.file_changed"


def test_a_model_without_one_of_its_files_is_refused(house, load_code, tmp_path):
    shutil.copytree(house.model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    assert load_code(model=str(tmp_path / "model")) == "model.file_missing"
    assert load_code(model=str(tmp_path / "nowhere")) == "model.file_missing"


def test_bad_rows_are_refused_and_a_stranger_has_none(load_code, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        json.dumps({"kind": "text-label", "text": "Mrs Smith", "label": "unknown", "split": "train"})
    )
    assert load_code(dataset=str(rows)) == "rows.unknown_label"
    rows.write_text("Mrs Smith")
    assert load_code(dataset=str(rows)) == "rows.invalid"
    assert load_code(dataset=str(tmp_path / "nothing")) == "slice.no_file"
    assert load_code(site="clara") == "manifest.unknown_site"


def test_an_internal_fault_tells_its_code_and_nothing_else(world, load_code, refusal_of, house):
    """A null byte in a path is a fault that nobody foresaw; the path stands for a row that an error
    quotes."""
    arguments = {"model": str(house.model)} | world.rows_of("anna")
    secret = "Mrs Smith\0of Elm Street"
    refusal = refusal_of(world.anna.call, "load", **arguments | {"model": secret})
    assert (refusal.code, refusal.facts) == ("internal", {})
    log = (world.anna.mailbox.folder / "program.log").read_text()
    assert "ValueError" in log
    assert "models.py" in log
    assert "Smith" not in log
    assert "null" not in log
    assert world.anna.call("ping") == {}


def test_no_turn_is_taken_before_loading(world, code_of):
    assert code_of(world.anna.call, "train", round=1, previous=None) == "slice.not_loaded"
    assert (
        code_of(world.anna.call, "accelerate", channel="/dev/shm/none", room=0) == "program.unknown_operation"
    )


def test_model_and_rows_may_lie_in_the_mailbox_and_are_read_once(world, house, load_code):
    """Under Gramine nothing else of the host is visible."""
    shutil.copytree(house.model, world.anna.mailbox.folder / "model")
    (world.anna.mailbox.folder / "data").mkdir()
    shutil.copy(house.rows["anna"], world.anna.mailbox.folder / "data" / "rows.jsonl")
    stages = []
    arguments = {"model": "model"} | world.rows_of("anna") | {"dataset": "data/rows.jsonl"}
    loaded = world.anna.call("load", progress=stages.append, **arguments)
    assert loaded == {
        "site": "anna",
        "training_rows": 12,
        "validation_rows": 8,
        "test_rows": 8,
        "cut": 0,
        "left_out": 0,
    }
    assert stages == [Progress("loading")]
    assert load_code() == "slice.already_loaded"
    assert load_code(site="berta") == "slice.already_loaded"
