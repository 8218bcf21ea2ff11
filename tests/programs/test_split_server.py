"""Method 2's server in a real process: two sites' sealed features, two rounds, the closing one, the test."""

from __future__ import annotations

import os
import signal

import msgspec
import numpy as np
import pytest
import torch

from contracts.manifest import Split, Training
from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.refusal import Refusal
from enclave.programs.statekeys import label
from tests.programs.conftest import House
from tests.programs.split_house import SplitRun, split_manifest
from tests.support.on_disk import contents

pytestmark = pytest.mark.enosys

SITES = ("anna", "berta", "clara")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Three sites: the scores of fewer are told to nobody."""
    return House(tmp_path_factory.mktemp("house"), SITES)


def begin(house, folder, consortium_class, **changes) -> SplitRun:
    consortium = consortium_class(house, folder / "run", split_manifest(house, **changes))
    (folder / "sites").mkdir()
    return SplitRun(consortium, folder / "sites")


@pytest.fixture(scope="module")
def run(house, tmp_path_factory, consortium_class):
    run = begin(house, tmp_path_factory.mktemp("split"), consortium_class)
    run.the_server = run.server()
    run.joined = {site: run.join(run.the_server, site) for site in SITES}
    run.early = [refusal_code(*asked) for asked in asked_too_early(run)]
    run.rounds(run.the_server)
    yield run
    run.consortium.close()


def asked_too_early(run) -> list[tuple]:
    """Questions that a server which has trained nothing must not answer."""
    alone = run.roster(1, NO_RECEIPT, SITES)
    alone["countersignatures"] = {"anna": alone["countersignatures"]["anna"]}
    return [
        ("roster.not_countersigned", run.the_server.call, "train", alone),
        ("round.nothing_yet", run.the_server.call, "evaluate", run.roster(3, NO_RECEIPT, SITES)),
        ("round.out_of_order", run.the_server.call, "evaluate", run.roster(1, NO_RECEIPT, SITES)),
    ]


def refusal_code(wanted, call, op, arguments) -> tuple[str, str]:
    with pytest.raises(Refusal) as caught:
        call(op, **arguments)
    return wanted, caught.value.code


@pytest.fixture
def another(house, tmp_path, consortium_class):
    """Another run of the same manifest, or one with changes."""
    made: list[SplitRun] = []

    def make(**changes) -> SplitRun:
        folder = tmp_path / f"{len(made)}"
        folder.mkdir()
        made.append(begin(house, folder, consortium_class, **changes))
        return made[-1]

    yield make
    for each in made:
        each.consortium.close()


def last_parameters(run, server, result) -> dict[str, torch.Tensor]:
    """The tail's tuned tensors, opened with the development platform's sealing key, which only a test has."""
    from io import BytesIO

    import safetensors.torch

    from attestation.sources import open_source
    from contracts.sealed.state import unseal_state

    platform = run.consortium.house.platforms["coordinator"]
    source = open_source("development", platform=platform, program="split_server")
    key, plain = source.sealing_key(label("split_server")), BytesIO()
    with server.mailbox.collect(result["state"]["sha256"]).open("rb") as file:
        unseal_state(file, plain, key=key, program="split_server", manifest=run.manifest.hash)
    return safetensors.torch.load(plain.getvalue())


def test_the_tail_learns_on_features_that_all_sites_have_sealed(run):
    losses = [result["metrics"]["pooled"]["loss"] for result in run.results[:3]]
    assert losses[-1] < losses[0]
    assert all(result["metrics"]["pooled"]["rows"] == 24 for result in run.results[:3])
    assert run.results[3]["metrics"].keys() >= {"test"} and "pooled" not in run.results[3]["metrics"]


def test_the_receipts_are_one_chain_and_name_the_sites_shards(run):
    receipts = [parse_receipt(result["receipt"]) for result in run.results]
    verify_chain(receipts, manifest=run.manifest.hash)
    assert {signed.receipt.program for signed in receipts} == {"split_server"}
    for signed in receipts:
        named = [(item.site, item.sha256, item.samples) for item in signed.receipt.inputs]
        assert named == [
            (site, run.features(site).index.hash, run.features(site).index.examples("training"))
            for site in SITES
        ]
    assert run.features("anna").index.examples("training") == 12


def test_the_server_says_what_is_tuned_and_what_its_optimizer_holds(run):
    tail = run.results[0]["receipt"]["receipt"]["metrics"]["tail"]
    state = last_parameters(run, run.the_server, run.results[-1])
    assert tail["parameters"] == sum(tensor.numel() for tensor in state.values())
    assert tail["optimizer_bytes"] == 8 * tail["parameters"] + 4 * len(state)


def test_killed_in_mid_epoch_it_goes_on_to_the_same_bits_and_nothing_is_uploaded_again(run, another):
    again = another()
    again.manifest, again.consortium.manifest = run.manifest, run.manifest
    again.consortium.text, again.consortium.approvals = run.consortium.text, run.consortium.approvals
    again.folder = run.folder  # the sites keep their shards and keys
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.sealed")}
    server = again.server()
    for site in SITES:
        again.join(server, site)
    first = again.round(server, 1)
    previous = receipt_hash(parse_receipt(first["receipt"]).receipt)
    again.results = [first]  # what the sites name with their keys from now on

    def kill_in_the_middle(news):
        if news.stage == "training" and news.done < news.of:
            os.kill(server.pid, signal.SIGKILL)

    with pytest.raises(Refusal, match=r"program\.died"):
        again.round(server, 2, previous, progress=kill_in_the_middle)

    successor = again.server()
    state = first["state"]["sha256"]
    again.consortium.move(state, server, successor)
    assert successor.call("restore", state=state) == {"round": 1, "receipt": previous}
    with pytest.raises(Refusal, match=r"features\.not_loaded"):
        again.round(successor, 2, previous)
    for site in SITES:
        again.join(successor, site)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.sealed")} == before
    again.rounds(successor, 2, previous)
    for ours, theirs in zip(again.results, run.results, strict=True):
        assert all(ours["metrics"].get(name) == theirs["metrics"].get(name) for name in ("pooled", "test"))
    left = last_parameters(again, successor, again.results[-1])
    right = last_parameters(run, run.the_server, run.results[-1])
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    chain = [parse_receipt(result["receipt"]) for result in again.results]
    verify_chain(chain, manifest=run.manifest.hash)
    assert [signed.receipt.restarts for signed in chain] == [0, 1, 1, 1]


def wrong_width(shard):
    return {**shard, "features": shard["features"][:, :-1].contiguous()}


def nan(shard):
    features = shard["features"].clone()
    features[0, 0] = float("nan")
    return {**shard, "features": features}


def huge(shard):
    """Finite, and enough to make everybody's training diverge."""
    return {**shard, "features": shard["features"] * 1e30}


def wrong_label(shard):
    return {**shard, "labels": shard["labels"] + 2}


def poisoned_lengths(shard):
    lengths = shard["lengths"].clone()
    lengths[0], lengths[1] = lengths[0] + 1, lengths[1] - 1
    lengths[2] += 1
    return {**shard, "lengths": lengths}


def fewer_examples(shard):
    kept = int(shard["lengths"][:-1].sum())
    return {
        "features": shard["features"][:kept],
        "lengths": shard["lengths"][:-1].clone(),
        "labels": shard["labels"][:-1].clone(),
    }


def test_a_hostile_shard_is_refused_by_its_code_and_the_run_goes_on_without_it(another, code_of):
    run = another(aggregation=msgspec.structs.replace(split_manifest_quorum(), quorum=1))
    server = run.server()
    for forge, code in (
        (wrong_width, "features.shape"),
        (nan, "features.not_finite"),
        (huge, "features.beyond_bound"),
        (wrong_label, "features.labels"),
        (poisoned_lengths, "features.lengths"),
        (fewer_examples, "features.bad_index"),
    ):
        assert code_of(run.hostile, server, "berta", forge) == code
    assert code_of(run.hostile, server, "berta", layout="e" * 64) == "features.stale"
    stale = {"index": lambda index: msgspec.structs.replace(index, origin="f" * 64)}
    assert code_of(run.hostile, server, "berta", **stale) == "features.stale"
    twice = {"index": lambda index: msgspec.structs.replace(index, shards=(index.shards[0],) * 2)}
    assert code_of(run.hostile, server, "berta", skip=2, **twice) == "features.bad_index"
    assert server.call("status")["features"] == {}
    run.join(server, "anna")
    assert code_of(run.round, server, 1) == "features.not_loaded"
    result = run.round(server, 1, sites=("anna",))
    assert [item["site"] for item in result["receipt"]["receipt"]["inputs"]] == ["anna"]


def test_training_ends_early_when_the_loss_has_stopped_falling(another, code_of):
    """At a rate that moves no float32 parameter the second round's scores are those of the first."""
    training = Training(
        rounds=3, local_epochs=1, batch_size=4, learning_rate=1e-12, seed=7, patience=1, schedule="cosine"
    )
    run = another(training=training)
    server = run.server()
    for site in SITES:
        run.join(server, site)
    first = run.round(server, 1)
    second = run.round(server, 2, receipt_hash(parse_receipt(first["receipt"]).receipt))
    assert first["metrics"]["stopping"]["rounds_since"] == 0
    assert second["metrics"]["stopping"] == {**first["metrics"]["stopping"], "rounds_since": 1, "stopped": 1}
    last = receipt_hash(parse_receipt(second["receipt"]).receipt)
    assert code_of(run.round, server, 3, last) == "round.out_of_order"
    assert run.round(server, 4, last)["receipt"]["receipt"]["best"]["round"] == 2


def split_manifest_quorum():
    from contracts.manifest import Aggregation

    return Aggregation("fedavg", quorum=2, deadline_seconds=60)


def test_keys_that_another_than_the_site_has_signed_are_refused(run, code_of):
    house = run.consortium.house
    server = run.the_server
    keys = run.wrap(server, "anna", run.features("anna"), signer=house.site_keys["berta"])
    assert code_of(server.call, "features", site="anna", keys=keys) == "features.sealed"


def test_a_round_trains_only_on_what_all_listed_sites_have_countersigned_and_in_its_turn(run):
    assert all(wanted == code for wanted, code in run.early), run.early


def test_one_tail_a_site_is_averaged_exactly(another, run):
    """The mean of the sites' tails, weighted by their examples: the same library, without an enclave."""
    from benchmarks.fedavg import fedavg
    from enclave.programs.tail import load_tail
    from enclave.training.features import from_bytes

    sites = another(split=Split(1, batches="per-site"))
    server = sites.server()
    for site in SITES:
        sites.join(server, site)
    result = sites.round(server, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        learner = load_tail(sites.manifest, sites.consortium.house.model)
        updates = []
        for site in SITES:
            kept = sites.features(site)
            shards = [
                from_bytes(opened(sites, site, kept, place), learner.layout(site))
                for place, shard in enumerate(kept.index.shards)
                if shard.purpose == "training"
            ]
            learner.start_from(None)
            outcome, state = learner.train(1, {site: shards}, lambda _news: None)
            updates.append((outcome.samples, state))
        mean = fedavg(updates)
    finally:
        torch.set_num_threads(threads)
    sealed = last_parameters(sites, server, result)
    assert all(np.array_equal(mean[name], sealed[name]) for name in mean)
    assert mean.keys() == sealed.keys()


def opened(run, site, kept, place) -> bytes:
    from io import BytesIO

    from contracts.sealed.shards import open_shard

    plain = BytesIO()
    with run.store(site).file(place, kept.index).open("rb") as file:
        key, about = bytes.fromhex(kept.keys[place]), kept.index.about(place)
        open_shard(file, plain, key=key, about=about, limit=1 << 30)
    return plain.getvalue()


def test_no_feature_label_or_parameter_lies_open_in_the_mailbox_or_the_log(run):
    """A window of each site's features, lengths and labels, as they stand in the open shard; and the tuned
    rows."""
    needles = [b'{"dtype"', b"lora_A"]  # how an open file of tensors begins, and what it names
    for site in SITES:
        kept = run.features(site)
        for place in range(len(kept.index.shards)):
            plain = opened(run, site, kept, place)
            needles += [plain[-64:], plain[-len(plain) // 2 :][:64]]
    final = last_parameters(run, run.the_server, run.results[-1])
    needles += [tensor.numpy().tobytes()[:64] for tensor in final.values() if tensor.numel() >= 16]
    searched = 0
    for file, content in contents(run.the_server.mailbox.folder):
        if "model" in file.parts:
            continue
        searched += 1
        found = [needle[:16] for needle in needles if needle in content]
        assert not found, (file, found)
    assert searched >= 8


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_activations_that_are_computed_again_give_the_same_tail(run, dropout):
    """Gradient checkpointing saves memory and changes no bit, nor what is dropped."""
    from enclave.programs.tail import load_tail
    from enclave.training.features import from_bytes

    def trained(checkpointing):
        split = Split(1, checkpointing=checkpointing)
        spf = msgspec.structs.replace(run.manifest.adapter, dropout=dropout)
        manifest = msgspec.structs.replace(run.manifest, split=split, adapter=spf)
        learner = load_tail(manifest, run.consortium.house.model)
        kept = run.features("anna")
        shard = from_bytes(opened(run, "anna", kept, 0), learner.layout("anna"))
        recomputed: list[int] = []
        for _, layer in learner.tail.layers():
            inner = next(module for module in layer.modules() if isinstance(module, torch.nn.Linear))
            inner.register_forward_hook(lambda *_: recomputed.append(1))
        learner.start_from(None)
        result, state = learner.train(1, {"anna": [shard]}, lambda _news: None)
        return len(recomputed), result.loss, state

    (once, loss, state), (twice, loss_again, state_again) = trained(False), trained(True)
    assert twice == 2 * once > 0
    assert loss == loss_again
    assert all(np.array_equal(state[name], state_again[name]) for name in state)
