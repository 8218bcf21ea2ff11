"""Method 1 behind a public front, in one process: the tail that learns there, the features that a host hands
in, and how often a sample finds the wrong ones."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
import torch

from benchmarks import small_models
from contracts.commitment import commitment
from contracts.refusal import Refusal
from enclave.programs.public_front import SiteFront as Features
from enclave.slicing.adapters import adapt, tuned_state
from enclave.slicing.halves import streamed_front
from enclave.slicing.recomputed import SHARE, TOLERANCE, agrees, differing
from enclave.slicing.skeleton import Base
from enclave.slicing.split import Front, Tail, feature_bound_of
from enclave.training.data import Examples
from enclave.training.features import FeatureSet, layout_of
from enclave.training.handed import FeatureRows, HandedFeatures
from site_agent.methods.method_1.features import feature_bytes
from site_agent.methods.shard_making import compute
from tests.slicing.small import LABELS, MODELS, model, texts
from tests.slicing.test_halves import saved

WIDTH, LORA_SEED = 24, 3
KEY = bytes(range(32))


def rows(count: int = 40, seed: int = 4) -> Examples:
    draw = random.Random(seed)
    tokens = [[draw.randint(3, 40) for _ in range(draw.randint(1, 12))] for _ in range(count)]
    return Examples(tokens, [draw.randrange(LABELS) for _ in tokens], 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "bert"
    return Base(folder, saved(folder, "bert", "classifier"))


@pytest.fixture(scope="module")
def given(base, tmp_path_factory):
    """(examples, file of their features) as a site's agent makes them."""
    examples, file = rows(), tmp_path_factory.mktemp("given") / "features"
    made = compute(Front(model("bert"), 1), examples, range(len(examples)), 8)
    file.write_bytes(feature_bytes(made.features))
    return examples, file


def handed(given, file=None, feature_bound=math.inf):
    return HandedFeatures(file or given[1], given[0].lengths, WIDTH, feature_bound)


def code(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.code


@pytest.mark.parametrize("k", (1, 2))
@pytest.mark.parametrize(("name", "head"), MODELS)
def test_a_tail_learns_what_the_whole_model_learns_with_pairs_on_its_last_layers(name, head, k):
    lora = small_models.lora(name)
    whole = adapt(model(name, head), lora, LORA_SEED, first=k)
    front, tail = Front(model(name, head), k), Tail(model(name, head), k)
    adapt(tail.model, lora, LORA_SEED, first=k)
    start, other = tuned_state(tail.model), tuned_state(whole)
    assert start.keys() == other.keys() and all(np.array_equal(start[key], other[key]) for key in start)
    ids, mask = texts()
    for logits in (whole(input_ids=ids, attention_mask=mask).logits, tail(front(ids, mask), mask).logits):
        (logits.sin() * (mask[..., None] if head == "lm" else 1)).sum().backward()
    ours, theirs = (
        {n: p.grad for n, p in tuned.named_parameters() if p.requires_grad} for tuned in (tail.model, whole)
    )
    assert ours.keys() == theirs.keys()
    for key, gradient in theirs.items():
        torch.testing.assert_close(ours[key], gradient, rtol=1e-4, atol=1e-4)


def test_rows_of_features_come_in_the_order_of_the_rows_themselves(given):
    examples = given[0]
    material = FeatureRows(examples, handed(given), 0)
    packed = FeatureSet(
        [compute(Front(model("bert"), 1), examples, range(len(examples)), 8)],
        layout_of(pinned_spec(), model("bert").config, 1, "d" * 64),
    )
    for left, right, own in zip(
        material.training_batches(4, random.Random(9)),
        packed.training_batches(4, random.Random(9)),
        examples.training_batches(4, random.Random(9)),
        strict=True,
    ):
        assert torch.equal(left.features, right.features)
        assert torch.equal(left.attention_mask, own.attention_mask)
        assert torch.equal(left.targets, own.targets)


def pinned_spec():
    from contracts.manifest import ModelSpec

    return ModelSpec("m", "sequence-classification", {"a": "0" * 64}, ("a", "b", "c"), 32)


def spoilt(given, folder, change):
    """A copy of the features, of which `change` makes other numbers: (tokens of all rows, WIDTH) bf16."""
    file = folder / "spoilt"
    numbers = torch.frombuffer(bytearray(given[1].read_bytes()), dtype=torch.bfloat16).view(-1, WIDTH)
    file.write_bytes(feature_bytes(change(numbers.clone())))
    return file


def put(value):
    def change(numbers):
        numbers[3, 5] = value
        return numbers

    return change


def test_features_that_are_no_numbers_or_out_of_reach_are_refused(given, base, tmp_path):
    feature_bound = feature_bound_of(streamed_front(base, 1))
    handed(given, feature_bound=feature_bound)
    for value, expected in (
        (math.nan, "front.not_finite"),
        (math.inf, "front.not_finite"),
        (-math.inf, "front.not_finite"),
        (1e30, "front.beyond_bound"),
        (-1.01 * feature_bound, "front.beyond_bound"),
    ):
        assert code(handed, given, spoilt(given, tmp_path, put(value)), feature_bound) == expected


def test_a_file_of_another_size_is_refused(given, tmp_path):
    for data in (given[1].read_bytes()[:-2], given[1].read_bytes() + b"\0\0", b""):
        (tmp_path / "other").write_bytes(data)
        assert code(handed, given, tmp_path / "other") == "front.wrong_size"
    assert code(handed, given, tmp_path / "none") == "front.no_features"


def test_a_row_that_changes_later_is_refused_and_the_others_are_not(given, tmp_path):
    file = tmp_path / "features"
    file.write_bytes(given[1].read_bytes())
    features = handed(given, file)
    before = features.row(7)
    with file.open("r+b") as opened:  # a bit of the last row, in place
        opened.seek(-1, 2)
        last = opened.read(1)
        opened.seek(-1, 2)
        opened.write(bytes([last[0] ^ 1]))
    assert torch.equal(features.row(7), before)
    assert code(features.row, len(given[0]) - 1) == "front.changed"
    assert code(features.scan, {7}) == "front.changed"
    file.write_bytes(given[1].read_bytes()[:-40])
    assert code(features.row, len(given[0]) - 1) == "front.changed"


def test_the_commitment_is_to_every_bit_and_the_order_under_the_sites_key(given, tmp_path):
    features = handed(given)
    made = commitment(features.hashes, KEY)
    flipped = spoilt(given, tmp_path, lambda numbers: -numbers)
    others = {
        commitment(handed(given, flipped).hashes, KEY),
        commitment(features.hashes, KEY[::-1]),
        commitment(features.hashes[::-1], KEY),
        commitment(features.hashes[1:], KEY),
    }
    assert made == commitment(handed(given).hashes, KEY) and len(others - {made}) == 4


@pytest.mark.parametrize(("name", "head"), MODELS)
def test_what_another_machine_rounds_otherwise_is_right_and_what_it_computes_otherwise_is_not(name, head):
    """The host computes rows in padded batches, the enclave alone: the last bits differ."""
    whole, examples = model(name, head), rows(12)
    front = Front(copy.deepcopy(whole), 2)
    made = compute(front, examples, range(12), 12)
    starts = made.lengths.cumsum(0).tolist()
    right = {
        row: made.features[start - length : start].float()
        for row, (start, length) in enumerate(zip(starts, made.lengths.tolist(), strict=True))
    }
    reported: list[int] = []
    assert list(differing(front, examples, right, reported.append)) == [] and reported[-1] == 12
    longest = max(right, key=lambda row: len(right[row]))
    for wrong in (right[longest] * 1.01, right[longest].flip(0), right[longest] + right[longest].std() / 20):
        assert list(differing(front, examples, {**right, longest: wrong})) == [longest]


def test_no_number_has_more_room_than_its_rounding_and_the_tolerance():
    computed = torch.randn(50, 64, generator=torch.Generator().manual_seed(2)) * 3
    given = computed.bfloat16().float()
    assert agrees(given, computed)
    room = TOLERANCE * computed.abs().median(-1).values
    for row, place in ((3, 5), (20, 63), (49, 0)):
        for sign in (-1, 1):
            unit = (1 + SHARE) * 2.0 ** (math.floor(math.log2(abs(float(computed[row, place])))) - 8)
            moved = given.clone()
            moved[row, place] = computed[row, place] + sign * (unit + 0.9 * room[row])
            assert agrees(moved, computed)
            moved[row, place] = computed[row, place] + sign * (unit + 1.1 * room[row])
            assert not agrees(moved, computed)


def test_a_number_thousands_of_times_as_large_as_the_others_may_differ_in_its_last_bits():
    """Half-way between two bf16 numbers, a millionth decides to which of them the host has rounded."""
    computed = torch.full((1, 64), 0.2)
    computed[0, 7] = 2056.0 * (1 + 2e-6)
    given = computed.bfloat16().float()
    given[0, 7] = 2048.0
    assert agrees(given, computed)
    given[0, 7] = 2040.0
    assert not agrees(given, computed)


def test_a_sample_finds_exchanged_rows_as_often_as_its_size_says(given, base, tmp_path):
    """10 of 40 rows have another row's features; each time 4 of 30 and 4 of each other 5 are looked at."""
    examples, layers = given[0], streamed_front(base, 1)
    parts = tuple(
        Examples(examples.tokens[which], examples.targets[which], 0)
        for which in (slice(0, 30), slice(30, 35), slice(35, 40))
    )
    bad = set(range(0, 30, 3))
    ends = np.cumsum(examples.lengths)

    def exchange(numbers):
        for row in bad:
            numbers[ends[row] - examples.lengths[row] : ends[row]] *= 1.1
        return numbers

    features = HandedFeatures(spoilt(given, tmp_path, exchange), examples.lengths, WIDTH, math.inf)
    tries, found = 80, 0
    for _ in range(tries):
        front = Features(4, layers, features, parts, KEY)
        assert code(front.require_right) == "front.not_held"
        try:
            front.look(1, lambda _: None)
        except Refusal as refusal:
            found += 1
            assert refusal.code == code(front.require_right) == "front.wrong_features"
            assert code(front.look, 2, lambda _: None) == "front.wrong_features"
        else:
            front.require_right()
    expected = 1 - math.comb(20, 4) / math.comb(30, 4)  # 0.823
    assert abs(found / tries - expected) < 4 * math.sqrt(expected * (1 - expected) / tries)
    everything = Features(
        4, layers, features, parts, KEY
    )  # in its eighth instance a site is looked at as a whole
    assert code(everything.look, 8, lambda _: None) == "front.wrong_features"


def test_a_sample_is_drawn_once_in_a_life_whatever_breaks_off(given, base, tmp_path):
    """A host that guesses from the time that it takes what is looked at would break it off and try again."""
    file = tmp_path / "features"
    file.write_bytes(given[1].read_bytes())
    features = HandedFeatures(file, given[0].lengths, WIDTH, math.inf)
    places = (slice(0, 20), slice(20, 30), slice(30, 40))
    parts = tuple(Examples(given[0].tokens[at], given[0].targets[at], 0) for at in places)
    front = Features(3, streamed_front(base, 1), features, parts, KEY)
    before = file.read_bytes()
    file.write_bytes(before[:-2] + b"\x01\x01")
    assert code(front.look, 1, lambda _: None) == "front.changed"
    drawn = copy.deepcopy(front._drawn)
    file.write_bytes(before)
    with pytest.raises(ZeroDivisionError):
        front.look(1, lambda _: 1 / 0)
    assert front._drawn == drawn and code(front.require_right) == "front.not_held"
