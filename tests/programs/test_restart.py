"""What outlives a process: an aggregator that is killed, a client slice that is started again, a host that
rolls back."""

import os
import signal

import numpy as np
import pytest

from contracts.receipt_chain import parse_receipt, verify_chain
from tests.programs.conftest import DATASET_KEY

pytestmark = [pytest.mark.slow, pytest.mark.enosys]  # eight processes

SITES = ("anna", "berta")


@pytest.fixture(scope="module")
def world(house, tmp_path_factory, consortium_class):
    """Round 1 is done; then the aggregator is killed and a successor takes its state."""
    world = consortium_class(house, tmp_path_factory.mktemp("restart") / "run")
    world.first = world.aggregator()
    world.clients = {site: world.client(site, world.first) for site in SITES}
    world.results = [world.round(1, world.first, world.clients)]
    world.previous = world.publish(world.results[0], world.first, world.clients)
    world.attested = [signing_key(world.first)]
    os.kill(world.first.pid, signal.SIGKILL)
    yield world
    world.close()


def signing_key(process):
    return process.call("evidence", nonce="00" * 32)["claims"]["signing_key"]


def carry_state(source, target, result) -> str:
    sha256 = result["state"]["sha256"]
    target.mailbox.deliver(source.mailbox.collect(sha256), sha256)
    return sha256


@pytest.fixture(scope="module")
def second(world):
    """The successor: new keys, bound again, and the state of round 1."""
    second = world.aggregator()
    world.attested.append(signing_key(second))
    state = carry_state(world.first, second, world.results[0])
    world.restored = second.call("restore", state=state)
    for site, client in world.clients.items():
        world.introduce(second, client, site)
    return second


def test_the_death_is_noticed(world, code_of):
    assert code_of(world.first.call, "status") == "program.died"
    assert not world.first.alive


def test_state_of_another_host_or_run_or_damaged_state_is_refused(world, code_of, consortium, tmp_path):
    elsewhere = world.bound("aggregator", "anna")
    state = carry_state(world.first, elsewhere, world.results[0])
    assert code_of(elsewhere.call, "restore", state=state) == "sealing.refused"
    (elsewhere.mailbox.folder / "in" / state).write_bytes(b"x")
    assert code_of(elsewhere.call, "restore", state=state) in ("sealing.not_sealed", "mailbox.hash_mismatch")
    assert code_of(elsewhere.call, "restore", state="0" * 64) == "mailbox.missing"
    elsewhere.stop()
    other = consortium(run="run-2").aggregator()
    state = carry_state(world.first, other, world.results[0])
    assert code_of(other.call, "restore", state=state) == "sealing.refused"


def test_the_successor_knows_where_the_run_stands(world, second, code_of):
    receipt = parse_receipt(world.results[0]["receipt"]).receipt
    assert world.restored["round"] == receipt.round == 1
    assert second.call("status")["receipt"] == verify_chain([parse_receipt(world.results[0]["receipt"])])
    state = world.results[0]["state"]["sha256"]
    assert code_of(second.call, "restore", state=state) == "state.not_fresh"
    again = world.roster(1, {"anna": "0" * 64, "berta": "1" * 64}, world.restored["receipt"])
    assert code_of(second.call, "aggregate", round=1, **again) == "round.already_aggregated"


def test_the_run_goes_on_and_the_chain_holds(world, second):
    world.results.append(world.round(2, second, world.clients, world.previous))
    world.previous = world.publish(world.results[1], second, world.clients)
    receipts = [parse_receipt(result["receipt"]) for result in world.results]
    verify_chain(receipts, manifest=world.manifest.hash, attested=world.attested)
    assert [signed.receipt.restarts for signed in receipts] == [0, 1]
    assert [signed.signing_key for signed in receipts] == world.attested


def test_a_run_that_was_interrupted_computes_what_an_undisturbed_one_does(world, second, house):
    """The second round's parameters, by plain federated averaging from the manifest's seed."""
    import torch

    from benchmarks.fedavg import fedavg
    from enclave.programs.learner import load_learner

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    learners = [
        load_learner(world.manifest, site, house.model, house.rows[site], DATASET_KEY) for site in SITES
    ]
    state = None
    for number in (1, 2):
        updates = []
        for learner in learners:
            learner.start_from(state)
            result, update = learner.train(number, lambda _progress: None)
            updates.append((result.samples, update))
        state = fedavg(updates)
    torch.set_num_threads(threads)
    sealed = world.parameters(second, world.results[1]["state"]["sha256"])
    assert all(np.array_equal(state[name], sealed[name]) for name in state)


def test_a_client_slice_that_was_started_again_goes_on_with_a_reissue(world, second, code_of, refusal_of):
    """Its old instance's contribution still counts; the old next state is not for its new keys."""
    before = world.clients["anna"].call("train", round=3, previous=world.previous)["update"]["sha256"]
    world.move(before, world.clients["anna"], second)
    os.kill(world.clients["anna"].pid, signal.SIGKILL)
    anna = world.client("anna", second)
    assert second.call("inspect", round=3, site="anna", sha256=before)["samples"] == 12

    world.move(world.previous["sha256"], second, anna)
    assert code_of(anna.call, "train", round=3, previous=world.previous) == "sealing.refused"
    again = second.call("reissue")
    world.move(again["next"]["sha256"], second, anna)
    continued = {
        "sha256": again["next"]["sha256"],
        "receipt": world.previous["receipt"],
        "reissue": again["reissue"],
    }
    assert (
        code_of(anna.call, "train", round=3, previous=continued | {"reissue": None}) == "round.wrong_receipt"
    )
    first = {"receipt": world.results[0]["receipt"]}
    refusal = refusal_of(anna.call, "train", round=3, previous=continued | first)
    assert (refusal.code, refusal.facts["fault"]) == (
        "round.wrong_receipt",
        "the reissue belongs to another receipt",
    )
    forged = again["reissue"] | {"signing_key": world.attested[0]}
    code = code_of(anna.call, "train", round=3, previous=continued | {"reissue": forged})
    assert code == "sealing.bad_signature"

    result = anna.call("train", round=3, previous=continued)
    world.move(result["update"]["sha256"], anna, second)
    world.clients["anna"] = anna
    world.third = {"anna": result["update"]["sha256"]}


def test_a_receipt_of_an_aggregator_that_was_never_verified_is_refused(world, second, refusal_of):
    """The new client slice has verified the second aggregator only."""
    world.move(world.results[0]["next"]["sha256"], world.first, world.clients["anna"])
    old = {"sha256": world.results[0]["next"]["sha256"], "receipt": world.results[0]["receipt"]}
    refusal = refusal_of(world.clients["anna"].call, "evaluate", round=4, previous=old)
    assert refusal.facts["fault"] == "no admitted aggregator stands behind it"


def test_old_state_is_refused_by_what_the_sites_have_countersigned(world, second, code_of):
    """A rollback: the host starts a third aggregator from the state of round 1, after round 2 was
    published."""
    blobs = world.third | world.train(3, second, {"berta": world.clients["berta"]}, world.previous)
    roster = world.roster(3, blobs, second.call("status")["receipt"])
    third = world.aggregator()
    third.call("restore", state=carry_state(world.first, third, world.results[0]))
    for site, client in world.clients.items():
        world.introduce(third, client, site)
        world.move(blobs[site], client, third)
    assert code_of(third.call, "aggregate", round=3, **roster) == "round.wrong_receipt"
    # Without any state it fares no better.
    fourth = world.aggregator()
    assert code_of(fourth.call, "aggregate", round=3, **roster) == "round.wrong_receipt"
    # The one with the right past does it.
    assert second.call("aggregate", round=3, **roster)["receipt"]["receipt"]["restarts"] == 1


def test_a_client_slice_refuses_an_older_past(world, refusal_of):
    old = {"sha256": world.results[0]["next"]["sha256"], "receipt": world.results[0]["receipt"]}
    refusal = refusal_of(world.clients["berta"].call, "evaluate", round=4, previous=old)
    assert refusal.facts["fault"] == "it is older than the last one used here"
