"""An aggregator opens contributions one after the other: what it makes is what all at once would make, a bad
one among them leaves nothing of the others behind, and its memory does not grow with the sites."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.rounds import drawn, round_of
from contracts.manifest import Aggregation, Privacy
from contracts.receipts import NO_RECEIPT
from enclave.programs.averaging import KEPT_BYTES, Averager
from enclave.programs.contributions import Enclosed
from enclave.training.clipping import clip
from enclave.training.metrics import Scores
from tests.programs.conftest import Consortium, House

SITES = ("anna", "berta", "carla")
SCORES = Scores(8, 8, 4, 5.0, ((2, 2), (2, 2)))


def rules(rule="fedavg", **more):
    return Aggregation(rule, quorum=1, deadline_seconds=60, **more)


def all_at_once(updates):
    """As docs/protocol.md says it: float64, in the order of the sites, then float32."""
    total, found = sum(weight for weight, _ in updates), {}
    for name, tensor in updates[0][1].items():
        summed = np.zeros(tensor.shape)
        for weight, state in updates:
            summed += state[name].astype(np.float64) * weight
        found[name] = (summed / total).astype(np.float32)
    return found


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.sampled_from([None, 0.05, 10.0]))
def test_one_after_the_other_gives_the_bits_of_all_at_once(house, samples, bound):
    manifest = house.manifest(aggregation=rules(clip=bound, max_samples=300))
    start, states = drawn(99, 0.02), [drawn(seed, 0.02) for seed in range(len(samples))]
    averager = Averager(manifest, len(samples))
    for number, (rows, state) in enumerate(zip(samples, states, strict=True)):
        averager.add(f"site-{number}", rows, state, start)
    found = averager.average(None, len(samples), None, {})
    bounded = states if bound is None else [clip(state, start, bound)[0] for state in states]
    expected = all_at_once([(min(rows, 300), s) for rows, s in zip(samples, bounded, strict=True)])
    assert all(np.array_equal(found.state[name], expected[name]) for name in expected | found.state)
    assert found.averaging.capped == sum(rows > 300 for rows in samples)
    assert ("deviation" in found.metrics) is (len(samples) >= manifest.publication.sites)


def peak(manifest, sites, megabytes):
    """Bytes that averaging so many sites has taken at most."""
    tracemalloc.start()
    averager = Averager(manifest, sites)
    for number in range(sites):
        averager.add(f"site-{number}", 12, drawn(number, megabytes), drawn(0, megabytes))
    averager.average(None, sites, None, {})
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.parametrize("more", [{}, {"clip": 1.0}, {"clip": 1.0, "privacy": Privacy("site", 1.0, 1e-5)}])
def test_the_memory_of_a_mean_does_not_grow_with_the_sites(house, more):
    size = 4.0  # of three sites together what the deviation would keep is within its bound, of twelve not
    manifest = house.manifest(aggregation=rules(**more))
    assert 12 * size * (1 << 20) > KEPT_BYTES
    assert peak(manifest, 12, size) < 1.1 * peak(manifest, 9, size)


def test_what_the_deviation_keeps_is_bounded(house):
    manifest = house.manifest(aggregation=rules())
    few, many = peak(manifest, 7, 4.0), peak(manifest, 9, 4.0)
    assert many < few < peak(manifest, 9, 4.0) + 6 * KEPT_BYTES


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A consortium of three, and an aggregator in whose mailbox a good update of each lies."""
    place = tmp_path_factory.mktemp("wide")
    house = House(place / "house", sites=SITES)
    run = Consortium(house, place / "run", house.manifest(aggregation=rules()))
    run.agg = run.aggregator()
    run.keys = {site: run.rogue(run.agg, site) for site in SITES}
    run.states = {site: pairs(number) for number, site in enumerate(SITES)}
    run.blobs = {site: contribute(run, site, run.states[site]) for site in SITES}
    yield run
    run.close()


def pairs(seed):
    numbers = np.random.default_rng(seed)
    return {
        f"encoder.layer.0.attention.self.query.lora_{side}.weight": numbers.normal(size=shape).astype(
            np.float32
        )
        for side, shape in (("A", (4, 32)), ("B", (32, 4)))
    }


def contribute(run, site, state, samples=12):
    enclosed = Enclosed(NO_RECEIPT, samples, SCORES)
    return run.contribute(run.agg, run.keys[site], site, 1, enclosed, state)


def test_a_bad_one_in_the_middle_leaves_nothing_of_those_before_it(wide, refusal_of):
    """Not to whoever asks again either: the sum that follows is that of its own roster alone."""
    other = {name: tensor[:, :3] for name, tensor in wide.states["berta"].items()}
    infinite = {name: tensor * np.float32(np.inf) for name, tensor in wide.states["berta"].items()}
    before = wide.agg.call("status")
    out = set((wide.agg.mailbox.folder / "out").iterdir())
    for state, samples, cause in (
        (other, 12, "tensors.shape"),
        (infinite, 12, "tensors.not_finite"),
        (wide.states["berta"], 10**6, "round.too_many_rows"),
    ):
        blobs = wide.blobs | {"berta": contribute(wide, "berta", state, samples)}
        refusal = refusal_of(wide.agg.call, "aggregate", round=1, **wide.roster(1, blobs))
        assert (refusal.facts["site"], refusal.facts["cause"]) == ("berta", cause)
        assert wide.agg.call("status") == before
        assert set((wide.agg.mailbox.folder / "out").iterdir()) == out
    result = wide.agg.call("aggregate", round=1, **wide.roster(1, wide.blobs))
    found = wide.parameters(wide.agg, result["state"]["sha256"])
    expected = all_at_once([(12, wide.states[site]) for site in SITES])
    assert all(np.array_equal(found[name], expected[name]) for name in expected | found)


@pytest.mark.slow
def test_an_aggregators_memory_is_flat_in_the_number_of_sites(tmp_path):
    """The whole process, opening and unsealing too; each site more was 11 MB."""
    few, many = (
        round_of(tmp_path / str(count), count, 2.0, "fedavg")["enclave_rss_mb"] for count in (10, 40)
    )
    assert many <= 1.2 * few


@pytest.mark.slow
def test_a_large_update_is_held_once_beside_the_sum(tmp_path):
    """Its own bytes and the sum in float64, twice as large, and next to nothing else: it was seven times."""
    found = round_of(tmp_path, 2, 100.0, "fedavg")
    assert found["enclave_rss_mb"] - found["rss_before_mb"] < 3.3 * 104.9
