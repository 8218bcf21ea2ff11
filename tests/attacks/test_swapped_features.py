"""A site of a Method 2 run brings more features than rows were approved, or others than it trained with."""

from __future__ import annotations

import msgspec
import pytest

from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from tests.programs.split_house import SplitRun, split_manifest

SITES = ("anna", "berta")


@pytest.fixture(scope="module")
def run(house, tmp_path_factory, consortium_class):
    """Both sites have trained in round 1."""
    folder = tmp_path_factory.mktemp("swapped")
    consortium = consortium_class(house, folder / "run", split_manifest(house))
    (folder / "sites").mkdir()
    run = SplitRun(consortium, folder / "sites")
    run.the_server = run.server()
    for site in SITES:
        run.join(run.the_server, site)
    run.results.append(run.round(run.the_server, 1))
    yield run
    consortium.close()


def other_labels(shard):
    return {**shard, "labels": 1 - shard["labels"]}


def test_features_that_were_trained_on_are_replaced_by_no_others_between_rounds(run, code_of):
    assert code_of(run.hostile, run.the_server, "berta", other_labels) == "features.replaced"


def test_nor_in_another_life_of_the_server(run, code_of):
    state = run.results[0]["state"]["sha256"]
    successor = run.server()
    run.consortium.move(state, run.the_server, successor)
    previous = receipt_hash(parse_receipt(run.results[0]["receipt"]).receipt)
    assert successor.call("restore", state=state) == {"round": 1, "receipt": previous}
    assert code_of(run.hostile, successor, "berta", other_labels) == "features.replaced"


def test_features_that_are_sealed_anew_and_otherwise_the_same_are_taken(run):
    """Whoever has lost the keys has lost the shards; the same rows give the same features."""
    assert run.hostile(run.the_server, "berta")["site"] == "berta"


def test_more_features_than_approved_rows_are_refused(run, code_of):
    def more(index):
        first = msgspec.structs.replace(index.shards[0], examples=21)
        return msgspec.structs.replace(index, shards=(first, *index.shards[1:]))

    assert code_of(run.hostile, run.server(), "berta", index=more) == "features.too_many"
