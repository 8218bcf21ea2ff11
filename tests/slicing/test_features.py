"""Packed features: nothing lost, nothing padded, and nothing believed of a shard."""

from __future__ import annotations

import dataclasses
import random

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from enclave.slicing.split import Front, Tail
from enclave.training import features as packing
from enclave.training.data import IGNORED, Examples
from enclave.training.features import FeatureSet, Layout, Shard, from_bytes, layout_of, origin, to_bytes
from site_agent.methods.shard_making import compute, estimate, plan_shards
from tests.slicing.small import MODELS, VOCABULARY, config, model

CLASSES = Layout("a" * 64, 8, 12, 3, False)
TOKENS = dataclasses.replace(CLASSES, labels=50, per_token=True)


def spec(**changes):
    fields = {"source": "x", "task": "sequence-classification", "files": {"config.json": "0" * 64}}
    return ModelSpec(**{**fields, "labels": ("a", "b", "c"), "max_tokens": 12, **changes})


def shard(layout=CLASSES, lengths=(3, 1, 12), seed=0):
    torch.manual_seed(seed)
    lengths = [max(2, length) for length in lengths] if layout.per_token else lengths
    total = sum(lengths)
    rows = total if layout.per_token else len(lengths)
    return Shard(
        torch.randn(total, layout.width).bfloat16(),
        torch.tensor(lengths, dtype=torch.int32),
        torch.randint(0, layout.labels, (rows,), dtype=torch.int32),
    )


def examples(count=11, causal=False, seed=2):
    draw = random.Random(seed)
    least = 2 if causal else 1
    tokens = [[draw.randrange(3, VOCABULARY) for _ in range(draw.randint(least, 12))] for _ in range(count)]
    given = [[IGNORED, *ids[1:]] for ids in tokens]
    return Examples(tokens, given if causal else [draw.randrange(3) for _ in range(count)], 0)


def code(data, layout=CLASSES):
    with pytest.raises(Refusal) as refused:
        from_bytes(data, layout)
    return refused.value.code


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.booleans(), st.integers(0, 99))
def test_a_shard_survives_its_bytes_bit_for_bit(lengths, per_token, seed):
    layout = TOKENS if per_token else CLASSES
    one = shard(layout, lengths, seed)
    data = to_bytes(one, layout)
    two = from_bytes(data, layout)
    for name in ("features", "lengths", "labels"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    payload = sum(layout.bytes_of(length) for length in one.lengths.tolist())
    assert payload <= len(data) <= payload + 512


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"features": torch.zeros(16, 9).bfloat16()}, "features.shape"),
        ({"features": torch.zeros(16 * 8).bfloat16()}, "features.shape"),
        ({"lengths": torch.tensor([[3, 1, 12]], dtype=torch.int32)}, "features.shape"),
        ({"labels": torch.zeros(4, dtype=torch.int32)}, "features.shape"),
        ({"labels": torch.zeros(3, 1, dtype=torch.int32)}, "features.shape"),
        ({"features": torch.zeros(16, 8)}, "features.dtype"),
        ({"lengths": torch.tensor([3, 1, 12])}, "features.dtype"),
        ({"labels": torch.zeros(3)}, "features.dtype"),
        ({"features": torch.full((16, 8), float("nan")).bfloat16()}, "features.not_finite"),
        ({"features": torch.full((16, 8), float("-inf")).bfloat16()}, "features.not_finite"),
        ({"labels": torch.tensor([0, 3, 1], dtype=torch.int32)}, "features.labels"),
        ({"labels": torch.tensor([0, -1, 1], dtype=torch.int32)}, "features.labels"),
        ({"lengths": torch.tensor([4, 0, 12], dtype=torch.int32)}, "features.lengths"),
        ({"lengths": torch.tensor([2, 1, 13], dtype=torch.int32)}, "features.lengths"),
        ({"lengths": torch.tensor([5, -1, 12], dtype=torch.int32)}, "features.lengths"),
        ({"lengths": torch.tensor([3, 1, 11], dtype=torch.int32)}, "features.lengths"),
        ({"lengths": torch.tensor([2**31 - 1, 2**31 - 1, 18], dtype=torch.int32)}, "features.lengths"),
        ({"lengths": torch.zeros(0, dtype=torch.int32)}, "features.empty"),
        ({"features": torch.zeros(0, 8).bfloat16()}, "features.empty"),
        ({"more": torch.zeros(1)}, "features.names"),
    ],
)  # fmt: skip
def test_a_poisoned_shard_is_refused_by_its_code(changes, expected):
    good = shard()
    tensors = {"features": good.features, "lengths": good.lengths, "labels": good.labels}
    assert code(safetensors.torch.save({**tensors, **changes}, {"origin": CLASSES.origin})) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([7, 7, IGNORED, 7, 7, IGNORED, IGNORED, 49, 7], None),
        ([IGNORED] * 9, "features.labels"),
        ([7, 7, 7, 7, 7, IGNORED, IGNORED, IGNORED, IGNORED], "features.labels"),  # the last teaches nothing
        ([7, IGNORED, IGNORED, 7, 7, 7, 7, 7, 7], "features.labels"),  # nothing predicts a first token
        ([7, 7, 7, 7, 7, 7, 7, 50, 7], "features.labels"),
        ([7, 7, 7, 7, 7, 7, 7, IGNORED - 1, 7], "features.labels"),
        ([7, 7, 7, 7, 7, 7, 7, -1, 7], "features.labels"),
    ],
)
def test_each_example_of_a_causal_shard_has_a_token_to_learn(labels, expected):
    lying = shard(TOKENS, (3, 2, 4))
    lying.labels[:] = torch.tensor(labels, dtype=torch.int32)
    data = to_bytes(lying, TOKENS)
    if expected is None:
        assert from_bytes(data, TOKENS).labels.tolist() == labels
    else:
        assert code(data, TOKENS) == expected


def test_a_classification_has_no_row_without_a_label():
    lying = shard()
    lying.labels[1] = IGNORED
    assert code(to_bytes(lying, CLASSES)) == "features.labels"


def test_one_nan_among_many_values_is_found():
    bad = shard()
    bad.features[15, 7] = float("nan")
    assert code(to_bytes(bad, CLASSES)) == "features.not_finite"


def test_a_shard_of_another_origin_is_stale_whatever_its_shape():
    other = dataclasses.replace(CLASSES, origin="b" * 64, width=9)
    assert code(to_bytes(shard(other), other)) == "features.stale"


def test_bytes_that_are_no_shard_are_refused(monkeypatch):
    data = to_bytes(shard(), CLASSES)
    header = int.from_bytes(data[:8], "little")
    padded = (header + 8).to_bytes(8, "little") + data[8 : 8 + header] + b" " * 8 + data[8 + header :]
    tensors = safetensors.torch.load(data)
    unnamed = safetensors.torch.save(tensors)
    talkative = safetensors.torch.save(tensors, {"origin": CLASSES.origin, "x": ""})
    for bad in (b"", b"{}", data[:-1], data + b"x", data[:40], padded, b"\xff" * 200, unnamed, talkative):
        assert code(bad) == "features.unreadable"
    monkeypatch.setattr(packing, "SHARD_BYTES", 0)
    assert code(data + bytes(10_000)) == "features.too_large"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_a_value_alone(place, bit):
    good = shard()
    data = bytearray(to_bytes(good, CLASSES))
    data[place % len(data)] ^= 1 << bit
    try:
        read = from_bytes(bytes(data), CLASSES)
    except Refusal as refusal:
        assert refusal.code.startswith("features.")
    else:
        assert read.features.shape == good.features.shape and torch.equal(read.lengths, good.lengths)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), max_size=60), st.integers(20, 600))
def test_shards_hold_every_example_once_in_order_and_keep_to_the_limit(lengths, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "SHARD_BYTES", limit)
        shards = plan_shards(lengths, CLASSES)
        assert [i for piece in shards for i in piece] == list(range(len(lengths)))
        sizes = [sum(CLASSES.bytes_of(lengths[i]) for i in piece) for piece in shards]
        assert all(size <= limit or len(piece) == 1 for size, piece in zip(sizes, shards, strict=True))
        planned = estimate(lengths, CLASSES)
        assert (planned.payload_bytes, planned.shards, planned.examples) == (
            sum(sizes),
            len(shards),
            len(lengths),
        )


def test_the_estimate_per_example_is_the_uploads():
    rows, layout = examples(40), layout_of(spec(), config("bert"), 1, "d" * 64)
    planned = estimate([len(tokens) for tokens in rows.tokens], layout)
    data = to_bytes(compute(Front(model("bert"), 1), rows, range(40), 8), layout)
    assert planned.payload_bytes == len(data) - 8 - int.from_bytes(data[:8], "little")


@pytest.mark.parametrize(("name", "head"), MODELS)
def test_a_tail_answers_packed_features_as_the_whole_model_answers_the_text(name, head):
    whole = model(name, head)
    rows = examples(causal=head == "lm")
    task = {"task": "causal-lm", "labels": ()} if head == "lm" else {}
    layout = layout_of(spec(**task), config(name), 2, "d" * 64)
    front, tail = Front(model(name, head), 2), Tail(model(name, head), 2)
    seen: list[tuple[int, int]] = []
    pieces = [compute(front, rows, which, 4, lambda *p: seen.append(p)) for which in (range(6), range(6, 11))]
    assert seen == [(4, 6), (6, 6), (4, 5), (5, 5)]
    packed = FeatureSet([from_bytes(to_bytes(piece, layout), layout) for piece in pieces], layout)
    assert len(packed) == 11
    for ours, theirs in zip(packed.evaluation_batches(5), rows.evaluation_batches(5), strict=True):
        assert torch.equal(ours.attention_mask, theirs.attention_mask)
        assert torch.equal(ours.targets, theirs.targets)
        with torch.no_grad():
            expected = whole(input_ids=theirs.input_ids, attention_mask=theirs.attention_mask).logits
            found = tail(ours.features, ours.attention_mask).logits
        kept = theirs.attention_mask.bool() if head == "lm" else ...
        error = (found[kept] - expected[kept]).abs().max() / expected[kept].abs().max()
        assert error < 0.03  # bf16 holds 8 bits


def test_features_do_not_depend_on_who_shares_the_batch():
    front, rows = Front(model("llama"), 2), examples()
    together, alone = (compute(front, rows, range(11), size) for size in (11, 1))
    torch.testing.assert_close(together.features.float(), alone.features.float(), rtol=1e-2, atol=1e-2)
    assert torch.equal(together.labels, alone.labels)


def test_a_front_computes_so_many_tokens_together_and_one_text_at_least(monkeypatch):
    front, rows, shapes = Front(model("llama"), 2), examples(), []
    front.backbone.register_forward_pre_hook(
        lambda _module, _args, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    monkeypatch.setattr("site_agent.methods.shard_making.BATCH_TOKENS", 8)
    made = compute(front, rows, range(11), 11)
    assert all(count * longest <= 8 or count == 1 for count, longest in shapes)
    assert sum(count for count, _ in shapes) == 11 and len(shapes) > 2
    assert made.lengths.tolist() == [len(tokens) for tokens in rows.tokens]


def test_an_epoch_has_the_order_of_the_same_examples_as_text():
    rows, layout = examples(50), layout_of(spec(), config("bert"), 1, "d" * 64)
    packed = FeatureSet([compute(Front(model("bert"), 1), rows, range(50), 16)], layout)
    ours = list(packed.training_batches(4, random.Random(5)))
    theirs = list(rows.training_batches(4, random.Random(5)))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.attention_mask, other.attention_mask)
        assert (one.features[one.attention_mask == 0] == 0).all() and one.rows == other.rows


def test_targets_of_a_causal_lm_are_its_learnt_tokens_and_nothing_else():
    rows, layout = (
        examples(4, causal=True),
        layout_of(spec(task="causal-lm", labels=()), config("llama"), 1, ""),
    )
    packed = FeatureSet([compute(Front(model("llama", "lm"), 1), rows, range(4), 4)], layout)
    batch = packed.collate([2, 0])
    for row, index in enumerate((2, 0)):
        learnt = rows.targets[index]
        assert batch.targets[row, : len(learnt)].tolist() == learnt and learnt[0] == IGNORED
        assert (batch.targets[row, len(learnt) :] == IGNORED).all()


def test_whatever_decides_the_features_decides_the_origin():
    base = origin(spec(), 2, "d" * 64)
    assert base == origin(spec(), 2, "d" * 64)
    others = [
        origin(spec(), 3, "d" * 64),
        origin(spec(), 2, "e" * 64),
        origin(spec(files={"config.json": "1" * 64}), 2, "d" * 64),
        origin(spec(files={"config.json": "0" * 64, "tokenizer.json": "0" * 64}), 2, "d" * 64),
        origin(spec(labels=("b", "a", "c")), 2, "d" * 64),
        origin(spec(max_tokens=13), 2, "d" * 64),
    ]
    assert len({base, *others}) == 7


def test_features_that_are_no_numbers_are_not_packed():
    front = Front(model("bert"), 1)
    front.backbone.embeddings.word_embeddings.weight[5] = float("inf")
    with pytest.raises(Refusal) as refused:
        compute(front, Examples([[4], [5]], [0, 1], 0), range(2), 2)
    assert refused.value.code == "features.not_finite"
