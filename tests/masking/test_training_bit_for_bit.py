"""The proof of Method 1: whole training runs give the same bits masked and unmasked."""

import math

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from contracts.manifest import Training
from enclave.slicing.adapters import adapt, load_tuned_state, tuned_state
from enclave.slicing.placement import Shape, offload
from enclave.slicing.prefix import tune_prefix
from enclave.training import loop
from enclave.training.choices import FIRST, Place, code_of, evaluate_choices
from enclave.training.data import IGNORED, Examples
from enclave.training.loop import round_batches
from enclave_host.unmasked import UnmaskedEngine, WrittenStore, cut_in_memory
from tests.masking import attacks
from tests.masking.tiny import (
    KINDS,
    USUAL,
    VOCABULARY,
    WAYS,
    LocalAccelerator,
    adapter,
    cut_model,
    model,
    sorts,
)
from tests.support.families import tried

STEPS = 5
LENGTHS = (3, 9, 4, 6, 2, 5)


def batches(name):
    """Ragged batches with padding, of changing sizes."""
    generator = torch.Generator().manual_seed(7)
    for step in range(STEPS):
        rows, tokens = 2 + step % 3, 3 + (5 * step) % 7
        ids = torch.randint(3, VOCABULARY, (rows, tokens), generator=generator)
        mask = torch.ones_like(ids)
        for row in range(rows - 1):
            kept = 1 + int(torch.randint(tokens, (), generator=generator))
            mask[row, kept:], ids[row, kept:] = 0, 0
        targets = torch.randint(3, (rows,), generator=generator) if sorts(name) else ids
        yield ids, mask, targets


def train(tuned, name):
    """Losses and final tuned parameters of a short run with AdamW and clipping, as the product trains."""
    parameters = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.0), []
    for ids, mask, targets in batches(name):
        logits = tuned(input_ids=ids, attention_mask=mask).logits
        if not sorts(name):
            kept = mask[:, 1:].bool()
            logits, targets = logits[:, :-1][kept], targets[:, 1:][kept]
        loss = torch.nn.functional.cross_entropy(logits, targets) if len(targets) else logits.sum() * 0.0
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, tuned_state(tuned)


def same(left, right):
    return (
        left[0] == right[0]
        and left[1].keys() == right[1].keys()
        and all(np.array_equal(left[1][key], right[1][key]) for key in left[1])
    )


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("name", "kind"), USUAL)
def test_masked_training_is_unmasked_training_bit_for_bit(name, kind, tmp_path):
    cut = cut_model(name, kind, tmp_path)
    initial = tuned_state(cut.model)
    cut.attach(UnmaskedEngine(cut.store))
    unmasked = train(cut.model, name)
    accelerator = LocalAccelerator(cut.store.folder)
    masked = offload(cut, accelerator, tmp_path / "vault")
    shapes = [Shape(*ids.shape, backward=True) for ids, _, _ in batches(name)]
    assert masked.begin_round(1, shapes[:3]) == 3  # the other two steps make their pads inline
    load_tuned_state(cut.model, initial)
    learnt = train(cut.model, name)

    assert same(unmasked, learnt)
    assert any(not np.array_equal(initial[key], learnt[1][key]) for key in initial)
    measures = masked.measures()
    assert measures["steps"] == STEPS and measures["checks"] == measures["products"] > 0
    assert measures["pads_used"] > 0 and measures["pads_inline"] > 0 and measures["pads_left"] == 0
    directions = {product.direction for product, _ in accelerator.seen}
    assert directions == {"forward", "backward"}


def test_what_lora_drops_is_dropped_masked_as_unmasked(tmp_path):
    pairs = msgspec.structs.replace(adapter("bert", "lora"), dropout=0.25, rslora=True)
    learner = cut_in_memory(model("bert"), pairs, 5, WrittenStore(tmp_path / "store"))
    initial, runs = tuned_state(learner.model), []
    learner.model.train()
    learner.attach(UnmaskedEngine(learner.store))
    for masked in (False, True):
        if masked:
            offload(learner, LocalAccelerator(learner.store.folder), tmp_path / "vault")
        load_tuned_state(learner.model, initial)
        torch.manual_seed(3)
        runs.append(train(learner.model, "bert"))
    load_tuned_state(learner.model, initial)
    torch.manual_seed(4)
    assert same(*runs) and not same(runs[0], train(learner.model, "bert"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("wide", "limbs"), [(8192, 3), (22_000, 4)])
def test_masked_training_of_wide_layers_is_unmasked_training_bit_for_bit(wide, limbs, kind, tmp_path):
    """An inner dimension that is split, and one for four bytes; batches that go out in halves; pads that were
    made before and inline."""
    config = BertConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=wide,
        vocab_size=VOCABULARY, max_position_embeddings=96, num_labels=3, pad_token_id=0,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    whole = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    cut_at = cut_in_memory(whole, adapter("bert", kind), 5, WrittenStore(tmp_path / "store"))
    layers = cut_at.store.layers.values()
    (down,) = (layer.forward for layer in layers if layer.inputs == wide)
    (up,) = (layer.backward for layer in layers if layer.outputs == wide)
    assert {p.limbs for p in (*down, *up)} == {limbs}
    assert (len(down) > 1) == (len(up) > 1) == (limbs == 3)
    ids = torch.randint(3, VOCABULARY, (4, 40), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[0, 25:], mask[2, 7:] = 0, 0
    initial, results = tuned_state(cut_at.model), []
    for masked in (False, True):
        load_tuned_state(cut_at.model, initial)
        if masked:
            placed = offload(cut_at, LocalAccelerator(cut_at.store.folder, rows=500), tmp_path / "vault")
            assert placed.begin_round(1, [Shape(4, 40, backward=True)]) == 1
        else:
            cut_at.attach(UnmaskedEngine(cut_at.store))
        parameters = [each for each in cut_at.model.parameters() if each.requires_grad]
        optimizer, losses = torch.optim.AdamW(parameters, lr=0.01), []
        for _ in range(2):
            logits = cut_at.model(input_ids=ids, attention_mask=mask).logits
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 1]))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        results.append((losses, tuned_state(cut_at.model)))
    assert same(*results)
    measures = placed.measures()
    assert measures["pads_used"] > 0 and measures["pads_inline"] > 0


@pytest.mark.parametrize(("name", "kind"), tried(WAYS))
def test_the_cut_model_learns_nearly_what_the_whole_one_learns(name, kind, tmp_path):
    """Same initial parameters; int8 weights move the first loss a little, not the path."""
    whole = model(name)
    tuned = (
        adapt(whole, adapter(name, kind), 5) if kind == "lora" else tune_prefix(whole, adapter(name, kind), 5)
    )
    cut = cut_model(name, kind, tmp_path)
    start, other = tuned_state(tuned), tuned_state(cut.model)
    assert start.keys() == other.keys() and all(np.array_equal(start[key], other[key]) for key in start)
    cut.attach(UnmaskedEngine(cut.store))
    for left, right in zip(train(tuned, name)[0], train(cut.model, name)[0], strict=True):
        assert math.isclose(left, right, rel_tol=0.08)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("name", "how", "pieces"), [
    ("llama", {"packing": 12}, [3]), ("gpt2", {"packing": 12}, [3]), ("llama", {"at_once": 4}, [4, 2]),
])  # fmt: skip
def test_rows_that_are_packed_or_go_apart_are_masked_bit_for_bit(name, how, pieces, tmp_path):
    """By the product's own loop; pads are made for the sequences or pieces, not for the rows."""
    cut = cut_model(name, "lora", tmp_path)
    draw = torch.Generator().manual_seed(5)
    tokens = [
        torch.randint(3, VOCABULARY, (length,), generator=draw).tolist() for length in (3, 9, 4, 6, 2, 5)
    ]
    rows = Examples(tokens, tokens, 0)
    training = Training(1, 1, batch_size=6, learning_rate=0.02, seed=3, **how)
    initial, results = tuned_state(cut.model), []
    for masked in (False, True):
        load_tuned_state(cut.model, initial)
        if masked:
            placed = offload(cut, accelerator := LocalAccelerator(cut.store.folder), tmp_path / "vault")
            (batches,) = round_batches(rows, training, round=1, site="anna")
            assert [batch.targets.shape[0] for batch, _ in batches] == pieces
            shapes = [Shape(*batch.inputs["input_ids"].shape, backward=True) for batch, _ in batches]
            placed.begin_round(1, shapes)
        else:
            cut.attach(UnmaskedEngine(cut.store))
        done = loop.train(cut.model, rows, training, round=1, site="anna")
        results.append((done.loss, tuned_state(cut.model)))
    assert same(*results) and placed.measures()["pads_inline"] == 0
    uniform(accelerator.seen)


def uniform(seen):
    """No row of words comes twice, and bytes are as often as each other: what test_transcript.py does to more
    of them."""
    rows = [row.tobytes() for _, words in seen for row in words.low]
    assert len(set(rows)) == len(rows)
    data = b"".join(words.low.tobytes() + words.high.tobytes() for _, words in seen)
    assert len(data) > 20_000
    assert abs(attacks.chi_square(data)) < 5 and attacks.bit_bias(data[: len(data) // 4 * 4]) < 5


@pytest.mark.usefixtures("engine")
def test_choices_are_masked_bit_for_bit(tmp_path):
    """Each choice stands behind the same question as an example of its own: the same tokens, other words."""
    cut, rows, right = cut_model("llama", "lora", tmp_path), 6, 1
    question, ends = [5, 6, 7, 8, 9, 10], ([11, 12], [13], [14, 15, 16])
    tokens = [[*question, *end] for _ in range(rows) for end in ends]
    places = [Place(row, len(ends), right, this) for row in range(rows) for this in range(len(ends))]
    targets = [
        [-(FIRST + code_of(place)), *[IGNORED] * (len(question) - 1), *ends[place.this]] for place in places
    ]
    scores = []
    for masked in (False, True):
        if masked:
            offload(cut, accelerator := LocalAccelerator(cut.store.folder), tmp_path / "vault").begin_round(2)
        else:
            cut.attach(UnmaskedEngine(cut.store))
        scores.append(evaluate_choices(cut.model, Examples(tokens, targets, 0), precision="fp32"))
    assert scores[0] == scores[1] and scores[0].rows == rows
    uniform(accelerator.seen)


@pytest.mark.usefixtures("engine")
def test_evaluation_in_inference_mode_is_masked_too(tmp_path):
    cut = cut_model("llama", "lora", tmp_path)
    ids = torch.randint(3, VOCABULARY, (3, 7))
    outputs = []
    for masked in (False, True):
        if masked:
            offload(cut, accelerator := LocalAccelerator(cut.store.folder), tmp_path / "vault").begin_round(2)
        else:
            cut.attach(UnmaskedEngine(cut.store))
        with torch.inference_mode():
            outputs.append(cut.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits)
    assert torch.equal(*outputs)
    assert {product.direction for product, _ in accelerator.seen} == {"forward"}


@pytest.mark.usefixtures("engine")
def test_training_goes_on_after_an_evaluation(tmp_path):
    cut = cut_model("bert", "lora", tmp_path)
    offload(cut, LocalAccelerator(cut.store.folder), tmp_path / "vault").begin_round(1)
    ids = torch.randint(3, VOCABULARY, (3, 7))
    with torch.inference_mode():
        cut.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    losses, _ = train(cut.model, "bert")
    assert len(losses) == STEPS


def test_siblings_make_one_trip(tmp_path):
    cut = cut_model("llama", "lora", tmp_path)
    names = [group.layer.name.split(".")[-1] for group in cut.groups]
    assert len(cut.groups) == 2 * 4 + 1  # qkv, o, gate+up, down in each layer, and the head
    assert "lm_head" in names
    offload(cut, accelerator := LocalAccelerator(cut.store.folder, rows=100), tmp_path / "vault").begin_round(
        1
    )
    ids = torch.randint(3, VOCABULARY, (2, 4))
    with torch.no_grad():
        cut.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert len(accelerator.seen) == len(cut.groups)
