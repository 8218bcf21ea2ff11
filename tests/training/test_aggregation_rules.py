"""What each aggregation rule promises, held against random updates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fedavg import fedavg
from enclave.training.aggregate import State
from enclave.training.clipping import clip
from enclave.training.products import A, B, deviation
from enclave.training.stacking import stack_svd

LAYERS = {"query": (7, 5), "dense": (4, 9)}


def site(seed: int, rank: int = 2, scale: float = 1.0) -> State:
    """LoRA pairs of two layers of different widths, and a head."""
    draw = np.random.default_rng(seed)
    state = {"head.weight": (scale * draw.standard_normal((3, 4))).astype(np.float32)}
    for layer, (outputs, inputs) in LAYERS.items():
        state[layer + A] = (scale * draw.standard_normal((rank, inputs))).astype(np.float32)
        state[layer + B] = (scale * draw.standard_normal((outputs, rank))).astype(np.float32)
    return state


def updates(seeds: list[int], rank: int = 2) -> list[tuple[int, State]]:
    return [(1 + seed % 97, site(seed, rank)) for seed in seeds]


def product(state: State, layer: str) -> np.ndarray:
    return state[layer + B].astype(np.float64) @ state[layer + A].astype(np.float64)


def mean_product(sites: list[tuple[int, State]], layer: str) -> np.ndarray:
    total = sum(samples for samples, _ in sites)
    return sum(samples / total * product(state, layer) for samples, state in sites)


def stacked(sites: list[tuple[int, State]]) -> State:
    return stack_svd(sites, fedavg(sites))


def norm_of_change(state: dict, start: dict) -> float:
    return math.sqrt(
        sum(float(np.square(state[n].astype(np.float64) - start[n].astype(np.float64)).sum()) for n in start)
    )


seeds = st.lists(st.integers(0, 10**6), min_size=1, max_size=5, unique=True)
quick = settings(deadline=None, max_examples=60)


@quick
@given(seeds)
def test_fedavg_is_the_weighted_mean_of_every_tensor(chosen: list[int]) -> None:
    sites = updates(chosen)
    total = sum(samples for samples, _ in sites)
    for name, mean in fedavg(sites).items():
        expected = sum(samples * state[name].astype(np.float64) for samples, state in sites) / total
        assert np.allclose(mean.astype(np.float64), expected, rtol=0, atol=1e-6)


@quick
@given(seeds, st.randoms(use_true_random=False))
@pytest.mark.parametrize("rule", [fedavg, stacked])
def test_the_order_of_the_sites_does_not_matter(rule, chosen: list[int], draw) -> None:
    sites = updates(chosen)
    shuffled = draw.sample(sites, len(sites))
    there, back = rule(sites), rule(shuffled)
    for layer in LAYERS:
        assert np.allclose(product(there, layer), product(back, layer), atol=1e-5)
    assert np.allclose(there["head.weight"], back["head.weight"], atol=1e-6)


@quick
@given(seeds)
def test_the_same_updates_give_the_same_bits(chosen: list[int]) -> None:
    for rule in (fedavg, stacked):
        there, back = rule(updates(chosen)), rule(updates(chosen))
        assert all(np.array_equal(there[name], back[name]) for name in there)
    assert deviation(updates(chosen), there) == deviation(updates(chosen), back)


@quick
@given(seeds)
def test_stacking_gives_the_best_product_of_the_rank(chosen: list[int]) -> None:
    """Eckart and Young: what is lost is exactly the singular values beyond the rank, and no more can be
    kept."""
    sites = updates(chosen)
    found = stacked(sites)
    for layer in LAYERS:
        mean = mean_product(sites, layer)
        lost = np.linalg.norm(np.linalg.svd(mean, compute_uv=False)[2:])
        assert found[layer + A].shape == sites[0][1][layer + A].shape
        assert np.linalg.norm(mean - product(found, layer)) == pytest.approx(float(lost), abs=2e-5)
    assert np.array_equal(found["head.weight"], fedavg(sites)["head.weight"])


@quick
@given(st.integers(0, 10**6))
def test_one_site_alone_keeps_its_product(seed: int) -> None:
    state = site(seed)
    found = stacked([(5, state)])
    for layer in LAYERS:
        assert np.allclose(product(found, layer), product(state, layer), atol=1e-5)


@pytest.mark.parametrize("rank", [6, 12])
def test_a_rank_beyond_the_layers_width_keeps_its_shape_and_the_mean(rank: int) -> None:
    sites = updates([1, 2], rank=rank)
    found = stacked(sites)
    for layer in LAYERS:
        assert found[layer + B].shape == sites[0][1][layer + B].shape
        assert np.allclose(product(found, layer), mean_product(sites, layer), atol=1e-4)


def test_a_direction_without_weight_can_still_be_learnt() -> None:
    """All B are zero before training: the products vanish, and rows of A that were zero too would stay so."""
    state = site(3)
    for layer in LAYERS:
        state[layer + B][:] = 0
    found = stacked([(1, state), (1, state)])
    for layer in LAYERS:
        assert not found[layer + B].any()
        assert np.allclose(np.linalg.norm(found[layer + A], axis=1), 1)


@quick
@given(seeds)
def test_the_deviation_is_that_of_the_full_matrices(chosen: list[int]) -> None:
    sites = updates(chosen)
    for state in (fedavg(sites), stacked(sites)):
        wrong = sum(float(np.square(mean_product(sites, x) - product(state, x)).sum()) for x in LAYERS)
        size = sum(float(np.square(mean_product(sites, x)).sum()) for x in LAYERS)
        assert deviation(sites, state) == pytest.approx(math.sqrt(wrong / size), abs=1e-6)


@quick
@given(seeds)
def test_with_one_a_for_all_the_mean_of_b_is_exact(chosen: list[int]) -> None:
    """Why FFA-LoRA freezes A."""
    sites = updates(chosen)
    for _, state in sites:
        for layer in LAYERS:
            state[layer + A] = sites[0][1][layer + A]
    assert deviation(sites, fedavg(sites)) < 1e-6


def test_without_pairs_there_is_no_deviation() -> None:
    only_b = {"query" + B: np.ones((3, 2), np.float32)}
    assert deviation([(1, only_b)], only_b) is None


@quick
@given(st.integers(0, 10**6), st.floats(1e-6, 1e6), st.floats(1e-3, 1e4))
def test_a_clipped_change_is_never_longer_than_the_bound(seed: int, bound: float, scale: float) -> None:
    start, state = site(seed), site(seed + 1, scale=scale)
    length = norm_of_change(state, start)
    clipped, was = clip(state, start, bound)
    assert was == (length > bound)
    assert norm_of_change(clipped, start) <= bound * (1 + 1e-9) or not was
    if was:
        for name, tensor in clipped.items():
            whole = state[name].astype(np.float64) - start[name].astype(np.float64)
            assert np.allclose(tensor - start[name].astype(np.float64), whole * (bound / length), rtol=1e-6)
    else:
        assert all(np.array_equal(clipped[name], state[name].astype(np.float64)) for name in state)


@quick
@given(seeds)
def test_a_clip_that_cuts_nothing_changes_no_bit_of_the_mean(chosen: list[int]) -> None:
    sites = updates(chosen)
    wide = [(samples, clip(state, site(0), 1e9)[0]) for samples, state in sites]
    mean = fedavg(wide)
    assert all(np.array_equal(fedavg(sites)[name], mean[name].astype(np.float32)) for name in mean)
