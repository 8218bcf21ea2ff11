"""A site of a Method 2 run brings more features than rows were approved, or others than it trained with; the
server's host brings another base model, or what a site has sealed to another instance.
"""

from __future__ import annotations

import shutil

import msgspec
import pytest

from contracts.manifest import Release
from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from contracts.sealed.handback import HandedBack, hand_back
from contracts.sealed.session import encode
from tests.programs.split_house import SplitRun, split_manifest

SITES = ("anna", "berta")


@pytest.fixture(scope="module")
def run(house, tmp_path_factory, consortium_class):
    """Both sites have trained in round 1."""
    folder = tmp_path_factory.mktemp("swapped")
    consortium = consortium_class(
        house, folder / "run", split_manifest(house, release=Release("serve-only", 2))
    )
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


@pytest.fixture(scope="module")
def fresh(run):
    """Another instance of the server, which has loaded nothing."""
    return run.consortium.bound("split_server", "coordinator")


def test_a_tail_is_cut_from_the_pinned_base_model_alone(run, fresh, tmp_path, code_of):
    """Tuned on other weights, what is released would say nothing of the model that people approved."""
    model = tmp_path / "model"
    shutil.copytree(run.consortium.house.model, model)
    for name in ("model.safetensors", "config.json"):
        before = (model / name).read_bytes()
        (model / name).write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert code_of(fresh.call, "prepare", model=str(model)) == "model.file_changed"
        (model / name).write_bytes(before)
    fresh.call("prepare", model=str(model))


def test_keys_that_were_sealed_to_another_life_open_nothing_in_this_one(run, fresh, code_of):
    """Nor does what a site has told that instance: which receipt was last."""
    fresh.call("prepare", model=str(run.consortium.house.model))
    keys = run.wrap(run.the_server, "anna", run.features("anna"))
    fresh.mailbox.deliver(run.folder / keys, keys)
    assert code_of(fresh.call, "features", site="anna", keys=keys) == "features.sealed"
    claims = run.the_server.call("evidence", nonce="00" * 32)["claims"]
    reported = {"manifest": run.manifest.hash, "site": "anna", "receiver": claims["hpke_key"]}
    sealed = hand_back(HandedBack(run.last), **reported, signer=run.consortium.house.site_keys["anna"])
    assert code_of(fresh.call, "share", site="anna", sealed=encode(sealed)) == "sealing.refused"
    run.the_server.call("share", site="anna", sealed=encode(sealed))


def test_more_features_than_approved_rows_are_refused(run, fresh, code_of):
    def more(index):
        first = msgspec.structs.replace(index.shards[0], examples=21)
        return msgspec.structs.replace(index, shards=(first, *index.shards[1:]))

    fresh.call("prepare", model=str(run.consortium.house.model))
    assert code_of(run.hostile, fresh, "berta", index=more) == "features.too_many"
