"""A site's host asks its client slice about the tuned parameters: by what the slice reads, by asking again,
and by rows that nobody has approved.

Each of these was answered before the slice checked what it reads against the manifest, and answered once.
"""

import msgspec
import numpy as np
import pytest

from enclave.programs.mailbox import PREPARED
from enclave.slicing.prepared import TABLE
from tests.programs.conftest import Consortium, House


@pytest.fixture(scope="module")
def loaded(masked):
    """With anna's slice loaded."""
    masked.anna.call("load", model=str(masked.model), **masked.rows_of("anna"))
    masked.accelerate("anna", masked.anna)
    return masked


HIDDEN = 32
"""Numbers of an embedding vector of the house's model."""


def write_table(client, change):
    """Overwrite the token embeddings in place, as a host that watches the slice's reads can."""
    file = client.mailbox.folder / PREPARED / TABLE
    before = file.read_bytes()
    rows = np.frombuffer(before, np.float32).reshape(-1, HIDDEN)
    with file.open("r+b") as opened:
        opened.write(change(rows).tobytes())
    return lambda: file.write_bytes(before)


def test_vectors_that_the_host_has_chosen_are_refused(loaded, code_of):
    undo = write_table(loaded.anna, lambda table: table * 0 + 1)
    assert code_of(loaded.anna.call, "train", round=1, previous=None) == "slicing.embedding_changed"
    undo()


def test_genuine_vectors_in_another_order_are_refused(loaded, code_of):
    """Every row is one of the pinned table's: only its number gives it away."""
    undo = write_table(loaded.anna, lambda table: table[::-1])
    assert code_of(loaded.anna.call, "train", round=1, previous=None) == "slicing.embedding_changed"
    undo()
    assert loaded.anna.call("train", round=1, previous=None)["samples"] == 12


def test_an_answer_holds_no_score(loaded):
    """An exact loss in clear, asked at will, is an oracle for the parameters."""
    reported = []
    made = loaded.anna.call("train", reported.append, round=1, previous=None)
    assert set(made) == {"update", "samples", "previous", "measures"}
    assert not any("loss" in name or "accuracy" in name for name in made["measures"])
    assert all(
        set(msgspec.to_builtins(news)) <= {"stage", "done", "of", "rows_per_second"} for news in reported
    )


def test_a_question_that_is_repeated_gets_the_same_answer_and_nothing_is_computed(loaded, code_of):
    reported = []
    first = loaded.anna.call("train", round=1, previous=None)
    files = sorted((loaded.anna.mailbox.folder / "out").iterdir())
    assert loaded.anna.call("train", reported.append, round=1, previous=None) == first
    assert reported == []
    assert sorted((loaded.anna.mailbox.folder / "out").iterdir()) == files
    assert code_of(loaded.anna.call, "evaluate", round=1, previous=None) == "round.out_of_order"


@pytest.fixture(scope="module")
def unloaded(house: House, tmp_path_factory):
    made = Consortium(house, tmp_path_factory.mktemp("rows") / "run")
    made.anna = made.client("anna", load=False)
    yield made
    made.close()


def load_code(world, code_of, rows, **changes):
    file = world.folder / "rows.jsonl"
    file.write_bytes(b"".join(rows))
    arguments = world.rows_of("anna") | {"dataset": str(file)} | changes
    return code_of(world.anna.call, "load", model=str(world.house.model), **arguments)


def test_rows_that_nobody_approved_are_refused_before_the_first_step(unloaded, code_of):
    approved = unloaded.house.rows["anna"].read_bytes().splitlines(keepends=True)
    labels = (b'"routine"', b'"urgent"') if b'"routine"' in approved[0] else (b'"urgent"', b'"routine"')
    relabelled = [approved[0].replace(*labels), *approved[1:]]
    others = [approved[0].replace(b'"text":"', b'"text":"someone '), *approved[1:]]
    reordered = [approved[1], approved[0], *approved[2:]]
    for rows in (relabelled, others, reordered, [*approved[1:], approved[-1]]):
        assert load_code(unloaded, code_of, rows) == "rows.changed"
    assert load_code(unloaded, code_of, approved, key="ff" * 32) == "rows.changed"
    assert load_code(unloaded, code_of, approved[1:]) == "rows.wrong_count"


def test_twenty_thousand_rows_in_place_of_the_approved_twenty_are_refused(unloaded, code_of):
    approved = unloaded.house.rows["anna"].read_bytes().splitlines(keepends=True)
    assert load_code(unloaded, code_of, approved * 1000) == "rows.wrong_count"
