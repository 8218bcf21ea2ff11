"""A server's optimiser over a run of a real aggregator: what it computes, what it keeps, what a restart loses
(nothing), and that a host cannot give it other moments."""

from __future__ import annotations

import os
import signal

import msgspec
import numpy as np
import pytest
import torch

from contracts.manifest import Aggregation, Privacy, ServerOptimizer, Training
from contracts.receipt_chain import parse_receipt, verify_chain
from enclave.training.aggregate import Mean
from enclave.training.server_step import server_step
from enclave.training.tensors import FIRST, SECOND
from tests.programs.conftest import hash_of
from tests.programs.own_slices import OwnSlices

pytestmark = [pytest.mark.slow, pytest.mark.enosys]

TRAINING = Training(rounds=3, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7)
ADAM = ServerOptimizer("fedadam", 0.05, 0.9, 0.99, 1e-3)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rules(optimizer, **more):
    return Aggregation("fedavg", 2, 60, optimizer=optimizer, **more)


def averaged(updates, kind):
    mean = Mean()
    for samples, update in updates:
        mean.add(samples, update)
    return mean.result(kind)


def carry(source, target, result) -> str:
    sha256 = result["state"]["sha256"]
    target.mailbox.deliver(source.mailbox.collect(sha256), sha256)
    return sha256


def again(world, slices):
    """The aggregator is killed, and a successor admits the same client slices. `restore` is the test's."""
    os.kill(slices.aggregator.pid, signal.SIGKILL)
    second = world.aggregator()
    for site, identity in slices.identities.items():
        world.show(identity, second, site)
    return second


@pytest.mark.parametrize(
    "optimizer", [ADAM, ServerOptimizer("fedavgm", 0.7, 0.5), None], ids=lambda it: it.kind if it else "none"
)
def test_a_run_that_was_restarted_after_each_round_computes_what_the_formulas_do_bit_for_bit(
    consortium, optimizer
):
    world = consortium(aggregation=rules(optimizer), training=TRAINING)
    slices = OwnSlices(world, world.aggregator())
    state, moments, previous, receipts, attested = None, {}, "0" * 64, [], set()
    for number in (1, 2, 3):
        attested.add(slices.aggregator.call("evidence", nonce="00" * 32)["claims"]["signing_key"])
        updates = []
        for learner in slices.learners.values():
            learner.start_from(state)
            outcome, update = learner.train(number, lambda _progress: None)
            updates.append((outcome.samples, update))
        result = slices.round(number, state, previous)
        mean = averaged(updates, np.float64 if optimizer else np.float32)
        start = next(iter(slices.learners.values())).initial if state is None else state
        following, moments = (mean, {}) if optimizer is None else server_step(optimizer, start, mean, moments)
        state = {name: tensor.astype(np.float32) for name, tensor in following.items()}
        template, kept = world.opened(slices.aggregator, result["state"]["sha256"])
        assert all(np.array_equal(kept[name], state[name]) for name in template)
        found = {name: tensor for name, tensor in kept.items() if name.startswith((FIRST, SECOND))}
        assert found.keys() == moments.keys()
        assert all(np.array_equal(found[name], moments[name]) for name in moments)
        receipts.append(parse_receipt(result["receipt"]))
        assert receipts[-1].receipt.state == result["state"]["sha256"]
        previous = hash_of(result["receipt"])
        if number < 3:
            second = again(world, slices)
            second.call("restore", state=carry(slices.aggregator, second, result))
            slices.aggregator = second
    closing = slices.round(4, state, previous)
    _, kept = world.opened(slices.aggregator, closing["state"]["sha256"])
    assert not any(name.startswith((FIRST, SECOND)) for name in kept)  # nothing is trained any more
    verify_chain(receipts, manifest=world.manifest.hash, attested=attested)


def test_an_older_states_moments_are_of_no_use_to_a_host(consortium, code_of):
    world = consortium(aggregation=rules(ADAM), training=TRAINING)
    slices = OwnSlices(world, world.aggregator())
    first = slices.round(1)
    state = world.parameters(slices.aggregator, first["state"]["sha256"])
    second = slices.round(2, state, hash_of(first["receipt"]))
    newest = world.parameters(slices.aggregator, second["state"]["sha256"])
    successor = again(world, slices)
    successor.call("restore", state=carry(slices.aggregator, successor, first))
    slices.aggregator = successor
    roster = world.roster(3, slices.train(3, newest, hash_of(second["receipt"])), hash_of(second["receipt"]))
    assert code_of(successor.call, "aggregate", round=3, **roster) == "round.wrong_receipt"


def test_noise_per_site_is_in_the_mean_before_the_step(consortium):
    """Without momentum at a rate of 0.5 the parameters have half of the noise that the receipt states."""
    privacy = Privacy("site", noise=0.5, delta=1e-5)
    optimizer = ServerOptimizer("fedavgm", 0.5, 0.0)
    world = consortium(aggregation=rules(optimizer, clip=0.25, privacy=privacy), training=TRAINING)
    slices = OwnSlices(world, world.aggregator())
    result = slices.round(1)
    receipt = parse_receipt(result["receipt"]).receipt
    state = world.parameters(slices.aggregator, result["state"]["sha256"])
    initial = next(iter(slices.learners.values())).initial
    # What training moves is at most the clip over all numbers together, which the noise drowns.
    moved = np.concatenate([(state[name] - initial[name]).ravel() for name in state])
    assert receipt.averaging.noise is not None
    assert float(np.std(moved)) == pytest.approx(0.5 * receipt.averaging.noise, rel=0.1)


@pytest.mark.parametrize("privacy", [None, Privacy("record", 0.01, 1e-5, gradient_clip=1.0)], ids=str)
def test_a_proximal_term_keeps_a_site_nearer_to_where_the_round_began(house, privacy):
    from enclave.programs.learner import load_learner
    from tests.programs.conftest import DATASET_KEY

    def distance(**changes) -> float:
        training = msgspec.structs.replace(TRAINING, local_epochs=3, **changes)
        manifest = house.manifest(
            training=training, aggregation=Aggregation("fedavg", 2, 60, privacy=privacy)
        )
        learner = load_learner(manifest, "anna", house.model, house.rows["anna"], DATASET_KEY)
        learner.start_from(None)
        _, state = learner.train(1, lambda _progress: None)
        return float(sum(np.square(state[name] - learner.initial[name]).sum() for name in state))

    assert distance(proximal=100.0) < 0.5 * distance()
