"""A state key in shares: a quorum of sites makes it again, fewer cannot, a liar among them is outvoted."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.refusal import Refusal
from contracts.sealed.escrow import SHARE_BYTES
from contracts.sealed.shares import combine, commitment_of, split


def code_of(call, *arguments) -> str:
    with pytest.raises(Refusal) as refusal:
        call(*arguments)
    return refusal.value.code


@st.composite
def parties(draw) -> tuple[bytes, list[str], int]:
    sites = [f"site-{number}" for number in range(draw(st.integers(1, 7)))]
    return draw(st.binary(min_size=32, max_size=32)), sites, draw(st.integers(1, len(sites)))


@settings(max_examples=60, deadline=None)
@given(parties(), st.randoms(use_true_random=False))
def test_any_threshold_of_shares_makes_the_key_again(party, random) -> None:
    key, sites, threshold = party
    shared = split(key, sites, threshold)
    some = random.sample(sites, threshold)
    assert combine({site: shared.shares[site] for site in some}, threshold, shared.commitment) == key


@settings(max_examples=40, deadline=None)
@given(parties())
def test_fewer_shares_than_the_threshold_are_refused(party) -> None:
    key, sites, threshold = party
    shared = split(key, sites, threshold)
    few = {site: shared.shares[site] for site in sites[: threshold - 1]}
    assert code_of(combine, few, threshold, shared.commitment) == "shares.too_few"


def test_one_share_less_fits_every_key() -> None:
    """What Shamir promises: with one share missing, each candidate key is as likely as any other. So two
    shares of a three-share key, combined as if two were enough, do not give it."""
    key = os.urandom(32)
    shared = split(key, ["a", "b", "c"], 3)
    two = {site: shared.shares[site] for site in "ab"}
    assert code_of(combine, two, 2, shared.commitment) == "shares.none_fit"


def test_a_site_that_hands_back_a_wrong_share_is_outvoted() -> None:
    key = os.urandom(32)
    shared = split(key, ["a", "b", "c", "d"], 3)
    lying = {**shared.shares, "a": shared.shares["a"][:2] + os.urandom(SHARE_BYTES - 2)}
    assert combine(lying, 3, shared.commitment) == key
    copied = {**shared.shares, "a": shared.shares["b"]}
    assert combine(copied, 3, shared.commitment) == key
    assert combine({**shared.shares, "a": b"short"}, 3, shared.commitment) == key


def test_wrong_shares_alone_make_nothing() -> None:
    shared = split(os.urandom(32), ["a", "b"], 2)
    zero = {"a": bytes(SHARE_BYTES), "b": shared.shares["b"]}
    assert code_of(combine, zero, 2, shared.commitment) == "shares.none_fit"


def test_a_key_is_shared_only_as_it_should_be() -> None:
    assert code_of(split, b"short", ["a"], 1) == "sealing.bad_key"
    for sites, threshold in ((["a", "b"], 3), (["a"], 0), (["a", "a"], 2), ([], 1)):
        assert code_of(split, bytes(32), sites, threshold) == "shares.bad_threshold"


def test_two_keys_have_two_commitments() -> None:
    assert commitment_of(bytes(32)) != commitment_of(bytes(31) + b"\1")
