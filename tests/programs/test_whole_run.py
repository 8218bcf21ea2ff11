"""Three sites, three rounds, the closing one and the test, in real processes, with real evidence."""

import hashlib
import json

import numpy as np
import pytest

from contracts.canonical import digest
from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.receipts import Scoring, receipt_hash
from tests.programs.conftest import DATASET_KEY, Consortium, House
from tests.support.on_disk import contents

SITES = ("anna", "berta", "clara")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    return House(tmp_path_factory.mktemp("house"), SITES)


@pytest.fixture(scope="module")
def run(house, tmp_path_factory, consortium_class):
    consortium = consortium_class(house, tmp_path_factory.mktemp("whole") / "run")
    aggregator = consortium.aggregator()
    clients = {site: consortium.client(site, aggregator) for site in SITES}
    consortium.results = consortium.whole_run(aggregator, clients)
    consortium.the_aggregator, consortium.clients = aggregator, clients
    yield consortium
    consortium.close()


def receipts(consortium):
    return [parse_receipt(result["receipt"]) for result in consortium.results]


def test_the_receipts_are_one_chain_of_one_attested_key(run):
    key = run.the_aggregator.call("evidence", nonce="00" * 32)["claims"]["signing_key"]
    last = verify_chain(receipts(run), manifest=run.manifest.hash, attested={key})
    assert last == run.the_aggregator.call("status")["receipt"]
    assert [signed.receipt.round for signed in receipts(run)] == [1, 2, 3, 4, 7]
    assert all(signed.receipt.development for signed in receipts(run))


def test_a_receipt_names_the_sealed_files_and_the_countersigned_roster(run):
    for result, signed in zip(run.results[:4], receipts(run)[:4], strict=True):
        receipt = signed.receipt
        assert (receipt.output, receipt.state) == (result["next"]["sha256"], result["state"]["sha256"])
        for name in (receipt.output, receipt.state):
            file = run.the_aggregator.mailbox.collect(name)
            assert hashlib.sha256(file.read_bytes()).hexdigest() == name
        assert [(entry.site, entry.samples) for entry in receipt.inputs] == [
            (site, count if receipt.round < 4 else 0)
            for site, count in (("anna", 12), ("berta", 20), ("clara", 28))
        ]
        roster = {
            "manifest": run.manifest.hash,
            "round": receipt.round,
            "inputs": [{"site": entry.site, "sha256": entry.sha256} for entry in receipt.inputs],
            "previous": receipt.previous,
            "pooled": True,
        }
        assert receipt.roster == digest(roster)


def test_the_test_makes_no_parameters_and_the_closing_round_those_of_the_best(run):
    closing, test = run.results[3:]
    assert test["next"] is None and test["state"] is not None
    best = receipts(run)[3].receipt.best
    assert best == receipts(run)[4].receipt.best
    chosen = run.results[best.round - 1]["state"]["sha256"]
    expected = run.parameters(run.the_aggregator, chosen)
    for result in (closing, test):
        found = run.parameters(run.the_aggregator, result["state"]["sha256"])
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_scores_are_those_of_all_held_out_rows_together_and_of_no_single_site(run):
    for result, signed in zip(run.results, receipts(run), strict=True):
        (pooled,) = (result["metrics"][name] for name in ("pooled", "test") if name in result["metrics"])
        assert ("test" in result["metrics"]) == (signed.receipt.round == run.manifest.last_round)
        assert pooled["rows"] == 24
        assert pooled["accuracy"] in (0, 0.2, 0.4, 0.6, 0.8, 1)  # to what 24 rows support
        assert result["metrics"] == signed.receipt.metrics
        assert signed.receipt.scoring == Scoring(SITES, None)
        assert not any(site in json.dumps(result["metrics"]) for site in SITES)


def test_training_lowers_the_loss(run):
    losses = [result["metrics"]["pooled"]["loss"] for result in run.results[:4]]
    assert losses[-1] < losses[0]


def test_after_the_last_round_nothing_more_is_done(run, code_of):
    status = run.the_aggregator.call("status")
    assert (status["round"], sorted(status["admitted"])) == (7, sorted(SITES))
    roster = run.roster(8, dict.fromkeys(SITES, "0" * 64), status["receipt"])
    assert code_of(run.the_aggregator.call, "aggregate", round=8, **roster) == "round.finished"
    previous = {"sha256": run.results[2]["next"]["sha256"], "receipt": run.results[2]["receipt"]}
    assert code_of(run.clients["anna"].call, "train", round=7, previous=previous) == "round.out_of_order"
    assert code_of(run.clients["anna"].call, "train", round=8, previous=previous) == "round.finished"


def test_nothing_of_the_parameters_or_rows_lies_in_a_mailbox(run, house):
    """Plaintext parameters are safetensors, whose header names every tensor; rows are JSON."""
    row = json.loads(house.rows["anna"].read_text().splitlines()[0])["text"].encode()
    final = run.parameters(run.the_aggregator, run.results[2]["state"]["sha256"])
    needles = [row, b"lora_A", *(tensor.tobytes() for tensor in final.values() if tensor.any())]
    seen = 0
    for file, content in contents(*(process.mailbox.folder for process in run.processes)):
        seen += 1
        assert not any(needle in content for needle in needles), file
    assert seen > 20


def test_the_enclaves_compute_exactly_what_plain_federated_averaging_does(run, house):
    """Bit for bit: the same training code without enclaves, seals or wires."""
    import torch

    from benchmarks.fedavg import fedavg
    from enclave.programs.learner import load_learner

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        learners = [
            load_learner(run.manifest, site, house.model, house.rows[site], DATASET_KEY) for site in SITES
        ]
        state = None
        for number, result in enumerate(run.results[:3], start=1):
            updates = []
            for learner in learners:
                learner.start_from(state)
                outcome, update = learner.train(number, lambda _progress: None)
                updates.append((outcome.samples, update))
            state = fedavg(updates)
            sealed = run.parameters(run.the_aggregator, result["state"]["sha256"])
            assert state.keys() == sealed.keys()
            assert all(np.array_equal(state[name], sealed[name]) for name in state)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.long  # that the enclaves compute what plain averaging does says it too, of fewer processes
def test_the_same_rows_and_seeds_give_the_same_bits(run, house, tmp_path, request):
    """Sealing is randomised, so every file differs; what they hold is equal to the last bit."""

    again = Consortium(house, tmp_path / "again", run.manifest)
    request.addfinalizer(again.close)
    aggregator = again.aggregator()
    clients = {site: again.client(site, aggregator) for site in SITES}
    results = again.whole_run(aggregator, clients)
    assert [result["metrics"] for result in results] == [result["metrics"] for result in run.results]
    for ours, theirs in zip(results, run.results, strict=True):
        assert ours["state"]["sha256"] != theirs["state"]["sha256"]
        left = again.parameters(aggregator, ours["state"]["sha256"])
        right = run.parameters(run.the_aggregator, theirs["state"]["sha256"])
        assert all(np.array_equal(left[name], right[name]) for name in left.keys() | right.keys())


def test_a_receipt_hash_is_what_rosters_name(run):
    hashes = [receipt_hash(signed.receipt) for signed in receipts(run)]
    assert [signed.receipt.previous for signed in receipts(run)] == ["0" * 64, *hashes[:4]]
