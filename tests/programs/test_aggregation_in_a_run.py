"""Rules other than FedAvg, clips, caps and noise, over whole runs of real processes."""

import math
import shutil

import msgspec
import numpy as np
import pytest
import torch

from benchmarks.fedavg import fedavg
from contracts.canonical import canonical
from contracts.manifest import Aggregation, Masking, Privacy, Training, parse
from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.receipts import NO_RECEIPT, NoisySteps, Spent
from enclave.programs.contributions import Enclosed, with_start
from enclave.programs.mailbox import PREPARED
from enclave.training.clipping import clip
from enclave.training.metrics import Scores
from enclave.training.stacking import stack_svd
from tests.programs.conftest import DATASET_KEY
from tests.programs.own_slices import OwnSlices

SITES = ("anna", "berta")
TRAINING = Training(rounds=2, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7)
GOOD_SCORES = Scores(8, 8, 4, 5.0, ((2, 2), (2, 2)))


def rules(rule="fedavg", quorum=2, **more):
    return Aggregation(rule, quorum, 60, **more)


def learners(world):
    from enclave.programs.learner import load_learner

    house = world.house
    return [load_learner(world.manifest, site, house.model, house.rows[site], DATASET_KEY) for site in SITES]


def whole_run(world):
    aggregator = world.aggregator()
    clients = {site: world.client(site, aggregator) for site in SITES}
    results = world.whole_run(aggregator, clients)
    key = aggregator.call("evidence", nonce="00" * 32)["claims"]["signing_key"]
    receipts = [parse_receipt(result["receipt"]) for result in results]
    verify_chain(receipts, manifest=world.manifest.hash, attested={key})
    return aggregator, results, [signed.receipt for signed in receipts]


def distance(left, right):
    return math.sqrt(sum(float(np.square(left[n].astype(np.float64) - right[n]).sum()) for n in right))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("masking", [None, Masking()])
def test_under_ffa_lora_a_is_neither_tuned_nor_sent(house, tmp_path, masking):
    from enclave.programs.learner import load_learner

    placement = "masked" if masking else "all_in_tee"
    manifest = house.manifest(aggregation=rules("ffa-lora"), placement=placement, masking=masking)
    if masking:
        shutil.copytree(house.prepared(manifest.model.task)[1], tmp_path / PREPARED)
    learner = load_learner(manifest, "anna", house.model, house.rows["anna"], DATASET_KEY, tmp_path)
    named = dict(learner.model.named_parameters())
    assert not any("lora_A" in name for name in learner.initial)
    assert sum("lora_B" in name for name in learner.initial) == 4
    assert all(tensor.any() for name, tensor in named.items() if "lora_A" in name)


def test_a_plaintext_baseline_trains_exactly_what_the_enclaves_train(house):
    from enclave.programs.learner import load_learner

    sites = tuple(
        msgspec.structs.replace(site, dataset=msgspec.structs.replace(site.dataset, public=True))
        for site in house.manifest().sites
    )
    states = []
    for placement in ("plaintext", "all_in_tee"):
        manifest = parse(canonical(house.manifest(placement=placement, sites=sites, training=TRAINING)))
        learner = load_learner(manifest, "anna", house.model, house.rows["anna"], DATASET_KEY)
        learner.start_from(None)
        states.append(learner.train(1, lambda _progress: None)[1])
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[1])


@pytest.mark.slow
def test_a_noisy_run_of_ffa_lora_clips_adds_noise_and_says_so_on_its_receipts(consortium):
    privacy = Privacy("site", noise=0.5, delta=1e-5)
    world = consortium(
        aggregation=rules("ffa-lora", clip=0.25, max_samples=15, privacy=privacy), training=TRAINING
    )
    aggregator, results, receipts = whole_run(world)
    for round, receipt in enumerate(receipts[:2], start=1):
        averaging = receipt.averaging
        assert (averaging.rule, averaging.cohort, averaging.clip) == ("ffa-lora", 2, 0.25)
        assert (averaging.capped, averaging.clipped) == (1, None)  # berta's 20 rows count as 15
        assert averaging.noise == pytest.approx(0.5 * 0.25 * 15 / (12 + 15))
        steps = tuple(NoisySteps(site, 1.0, round) for site in SITES)
        assert receipt.privacy == Spent("site", "gaussian", 0.5, 1e-5, round, steps)
        assert receipt.metrics == {}
    assert receipts[2].averaging is None
    assert receipts[2].privacy == receipts[1].privacy

    first = world.parameters(aggregator, results[0]["state"]["sha256"])
    assert not any("lora_A" in name for name in first)
    crew, updates = learners(world), []
    for learner in crew:
        learner.start_from(None)
        _, state = learner.train(1, lambda _progress: None)
        updates.append((min(len(learner.training), 15), clip(state, learner.initial, 0.25)[0]))
    expected = {n: (updates[0][1][n] * 12 + updates[1][1][n] * 15) / 27 for n in first}
    numbers = sum(tensor.size for tensor in first.values())
    spread = distance(first, expected) / math.sqrt(numbers)
    assert spread == pytest.approx(receipts[0].averaging.noise, rel=0.1)


@pytest.mark.long
@pytest.mark.slow
def test_a_run_of_stack_svd_with_a_clip_is_what_the_rule_says_bit_for_bit(consortium):
    world = consortium(aggregation=rules("stack-svd", clip=0.5), training=TRAINING)
    aggregator, results, receipts = whole_run(world)
    crew, start = learners(world), None
    for number, (result, receipt) in enumerate(zip(results[:2], receipts[:2], strict=True), start=1):
        updates = []
        for learner in crew:
            learner.start_from(start)
            outcome, state = learner.train(number, lambda _progress: None)
            updates.append(
                (outcome.samples, clip(state, learner.initial if start is None else start, 0.5)[0])
            )
        stacked = stack_svd(updates, fedavg(updates))
        start = {name: tensor.astype(np.float32) for name, tensor in stacked.items()}
        sealed = world.parameters(aggregator, result["state"]["sha256"])
        assert all(np.array_equal(start[name], sealed[name]) for name in start.keys() | sealed.keys())
        assert (receipt.averaging.clip, receipt.averaging.clipped, receipt.metrics) == (0.5, None, {})
    assert receipts[0].privacy is None


@pytest.mark.slow
def test_noise_per_record_comes_from_the_client_slices_and_is_accounted_for(consortium):
    privacy = Privacy("record", noise=1.0, delta=1e-3, gradient_clip=0.5)
    world = consortium(aggregation=rules(quorum=1, privacy=privacy), training=TRAINING)
    aggregator = world.aggregator()
    result = world.round(1, aggregator, {"anna": world.client("anna", aggregator)})
    receipt = parse_receipt(result["receipt"]).receipt
    taken = (NoisySteps("anna", TRAINING.batch_size / 12, TRAINING.local_epochs * 12 // TRAINING.batch_size),)
    assert receipt.privacy == Spent("record", "poisson-sampled-gaussian", 1.0, 1e-3, 1, taken)
    assert (receipt.averaging.noise, receipt.averaging.clipped) == (None, None)
    crew = learners(world)
    states = []
    for _ in range(2):
        crew[0].start_from(None)
        states.append(crew[0].train(1, lambda _progress: None)[1])
    assert distance(*states) > 0  # not from the manifest's seed


@pytest.fixture(scope="module")
def world(house, tmp_path_factory, consortium_class):
    """Anna is honest and has trained round 1; the run clips. Berta is a rogue with an admitted key."""
    manifest = house.manifest(aggregation=rules(quorum=1, clip=0.5), training=TRAINING)
    world = consortium_class(house, tmp_path_factory.mktemp("clip") / "run", manifest)
    world.agg = world.bound("aggregator", "coordinator")
    world.blob = OwnSlices(world, world.agg, ("anna",)).train(1)["anna"]
    world.identity = world.rogue(world.agg, "berta")
    world.learner = learners(world)[1]
    yield world
    world.close()


def contribute(world, state):
    enclosed = Enclosed(NO_RECEIPT, 20, GOOD_SCORES)
    return world.contribute(world.agg, world.identity, "berta", 1, enclosed, state)


def test_a_rogue_that_does_not_say_where_it_began_is_refused(world, refusal_of):
    sha256 = contribute(world, world.learner.initial)
    seen = refusal_of(world.agg.call, "inspect", round=1, site="berta", sha256=sha256)
    assert (seen.facts["site"], seen.facts["cause"]) == ("berta", "tensors.names")


def test_a_rogue_that_claims_another_beginning_is_refused(world, refusal_of):
    initial = world.learner.initial
    moved = {name: tensor + np.float32(0.01) for name, tensor in initial.items()}
    blobs = {"anna": world.blob, "berta": contribute(world, with_start(initial, moved))}
    refusal = refusal_of(world.agg.call, "aggregate", round=1, **world.roster(1, blobs))
    assert (refusal.facts["site"], refusal.facts["cause"]) == ("berta", "round.another_start")


def test_a_rogue_moves_the_mean_by_no_more_than_its_clip_however_large_its_update(world):
    initial = world.learner.initial
    huge = {name: tensor + np.float32(1e6) for name, tensor in initial.items()}
    blobs = {"anna": world.blob, "berta": contribute(world, with_start(huge, initial))}
    result = world.agg.call("aggregate", round=1, **world.roster(1, blobs))
    state = world.parameters(world.agg, result["state"]["sha256"])
    assert distance(state, initial) <= 0.5 * (1 + 1e-5)
    assert distance(state, initial) > 0.5 * 20 / 32 - 0.5 * 12 / 32 - 1e-3
