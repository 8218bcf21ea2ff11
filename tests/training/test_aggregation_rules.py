"""What each aggregation rule promises, held against random updates."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.training.aggregate import clip, fedavg
from enclave.training.products import A, B, deviation, stack_svd

LAYERS = {"query": (7, 5), "dense": (4, 9)}


def site(seed: int, rank: int = 2, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """LoRA pairs of two layers of different widths, and a head."""
    draw = torch.Generator().manual_seed(seed)
    state = {"head.weight": scale * torch.randn(3, 4, generator=draw)}
    for layer, (outputs, inputs) in LAYERS.items():
        state[layer + A] = scale * torch.randn(rank, inputs, generator=draw)
        state[layer + B] = scale * torch.randn(outputs, rank, generator=draw)
    return state


def updates(seeds: list[int], rank: int = 2) -> list[tuple[int, dict[str, torch.Tensor]]]:
    return [(1 + seed % 97, site(seed, rank)) for seed in seeds]


def product(state: dict[str, torch.Tensor], layer: str) -> torch.Tensor:
    return state[layer + B].double() @ state[layer + A].double()


def mean_product(sites: list[tuple[int, dict[str, torch.Tensor]]], layer: str) -> torch.Tensor:
    total = sum(samples for samples, _ in sites)
    return sum(samples / total * product(state, layer) for samples, state in sites)


def norm_of_change(state: dict, start: dict) -> float:
    return math.sqrt(sum(float((state[n].double() - start[n].double()).square().sum()) for n in start))


seeds = st.lists(st.integers(0, 10**6), min_size=1, max_size=5, unique=True)
quick = settings(deadline=None, max_examples=60)


@quick
@given(seeds)
def test_fedavg_is_the_weighted_mean_of_every_tensor(chosen: list[int]) -> None:
    sites = updates(chosen)
    total = sum(samples for samples, _ in sites)
    for name, mean in fedavg(sites).items():
        expected = sum(samples * state[name].double() for samples, state in sites) / total
        assert torch.allclose(mean.double(), expected, rtol=0, atol=1e-6)


@quick
@given(seeds, st.randoms(use_true_random=False))
@pytest.mark.parametrize("rule", [fedavg, stack_svd])
def test_the_order_of_the_sites_does_not_matter(rule, chosen: list[int], draw) -> None:
    sites = updates(chosen)
    shuffled = draw.sample(sites, len(sites))
    there, back = rule(sites), rule(shuffled)
    for layer in LAYERS:
        assert torch.allclose(product(there, layer), product(back, layer), atol=1e-5)
    assert torch.allclose(there["head.weight"], back["head.weight"], atol=1e-6)


@quick
@given(seeds)
def test_the_same_updates_give_the_same_bits(chosen: list[int]) -> None:
    for rule in (fedavg, stack_svd):
        there, back = rule(updates(chosen)), rule(updates(chosen))
        assert all(torch.equal(there[name], back[name]) for name in there)
    assert deviation(updates(chosen), there) == deviation(updates(chosen), back)


@quick
@given(seeds)
def test_stacking_gives_the_best_product_of_the_rank(chosen: list[int]) -> None:
    """Eckart and Young: what is lost is exactly the singular values beyond the rank, and no more can be
    kept."""
    sites = updates(chosen)
    found = stack_svd(sites)
    for layer in LAYERS:
        mean = mean_product(sites, layer)
        lost = torch.linalg.svdvals(mean)[2:].norm()
        assert found[layer + A].shape == sites[0][1][layer + A].shape
        assert (mean - product(found, layer)).norm() == pytest.approx(float(lost), abs=2e-5)
    assert torch.equal(found["head.weight"], fedavg(sites)["head.weight"])


@quick
@given(st.integers(0, 10**6))
def test_one_site_alone_keeps_its_product(seed: int) -> None:
    state = site(seed)
    found = stack_svd([(5, state)])
    for layer in LAYERS:
        assert torch.allclose(product(found, layer), product(state, layer), atol=1e-5)


@pytest.mark.parametrize("rank", [6, 12])
def test_a_rank_beyond_the_layers_width_keeps_its_shape_and_the_mean(rank: int) -> None:
    sites = updates([1, 2], rank=rank)
    found = stack_svd(sites)
    for layer in LAYERS:
        assert found[layer + B].shape == sites[0][1][layer + B].shape
        assert torch.allclose(product(found, layer), mean_product(sites, layer), atol=1e-4)


def test_a_direction_without_weight_can_still_be_learnt() -> None:
    """All B are zero before training: the products vanish, and rows of A that were zero too would stay so."""
    state = site(3)
    for layer in LAYERS:
        state[layer + B].zero_()
    found = stack_svd([(1, state), (1, state)])
    for layer in LAYERS:
        assert not found[layer + B].any()
        assert torch.allclose(found[layer + A].norm(dim=1), torch.ones(2))


@quick
@given(seeds)
def test_the_deviation_is_that_of_the_full_matrices(chosen: list[int]) -> None:
    sites = updates(chosen)
    for state in (fedavg(sites), stack_svd(sites)):
        wrong = sum(float((mean_product(sites, x) - product(state, x)).square().sum()) for x in LAYERS)
        size = sum(float(mean_product(sites, x).square().sum()) for x in LAYERS)
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
    only_b = {"query" + B: torch.ones(3, 2)}
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
            whole = state[name].double() - start[name].double()
            assert torch.allclose(tensor - start[name].double(), whole * (bound / length), rtol=1e-6)
    else:
        assert all(torch.equal(clipped[name], state[name].double()) for name in state)


@quick
@given(seeds)
def test_a_clip_that_cuts_nothing_changes_no_bit_of_the_mean(chosen: list[int]) -> None:
    sites = updates(chosen)
    wide = [(samples, clip(state, site(0), 1e9)[0]) for samples, state in sites]
    mean = fedavg(wide)
    assert all(torch.equal(fedavg(sites)[name], mean[name].float()) for name in mean)
