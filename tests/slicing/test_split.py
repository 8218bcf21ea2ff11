"""Front and tail together are the whole model: every architecture, every cut, masks, positions and caches."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DynamicCache

from benchmarks import small_models
from contracts.architecture.layers import linears_of
from contracts.architecture.table import ARCHITECTURES as TABLE
from contracts.refusal import Refusal
from enclave.slicing.split import SLACK, Front, Session, Tail, feature_bound_of
from tests.slicing.small import (
    DECODERS,
    FAMILIES,
    HEADS,
    LAYERS,
    MODELS,
    ONE_EACH,
    VOCABULARY,
    config,
    model,
    texts,
)

CUTS = range(LAYERS + 1)


def halves(whole, k):
    return Front(copy.deepcopy(whole), k), Tail(copy.deepcopy(whole), k)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "head"), ONE_EACH)
def test_front_and_tail_of_every_family_are_the_whole_model_at_every_cut(name, head):
    the_halves_are_the_whole(name, head, CUTS)


@pytest.mark.parametrize(("name", "head"), [pair for pair in MODELS if pair.values not in ONE_EACH])
def test_front_and_tail_are_the_whole_model_under_the_other_head(name, head):
    the_halves_are_the_whole(name, head, CUTS)


def the_halves_are_the_whole(name, head, cuts):
    """On padded batches."""
    whole = model(name, head)
    ids, mask = texts()
    kept = mask.bool() if head == "lm" else ...
    with torch.no_grad():
        expected = whole(input_ids=ids, attention_mask=mask).logits[kept]
        for k in cuts:
            front, tail = halves(whole, k)
            close(tail(front(ids, mask), mask).logits[kept], expected)
    assert expected.std() > 0.05


@pytest.mark.parametrize("k", CUTS)
@pytest.mark.parametrize(("name", "head"), MODELS)
def test_the_fronts_own_features_are_far_within_reach_and_reach_is_no_large_number(name, head, k):
    whole = model(name, head)
    feature_bound = feature_bound_of(Front(copy.deepcopy(whole), k))
    ids, mask = texts()
    largest = float(Front(whole, k)(ids, mask).abs().max())
    assert largest < feature_bound / 8 < SLACK * 1000


@pytest.mark.parametrize(("name", "head"), MODELS)
def test_gradients_in_the_tail_are_those_of_the_whole_model(name, head):
    whole = model(name, head)
    front, tail = halves(whole, 1)
    ids, mask = texts()
    whole(input_ids=ids, attention_mask=mask).logits[:3].sin().sum().backward()
    tail(front(ids, mask), mask).logits[:3].sin().sum().backward()
    backbone = tail._backbone
    place = TABLE[whole.config.model_type].layers
    last = f"{backbone}.{place}.{LAYERS - 1}"  # a tail calls its layers what the whole model calls them
    theirs, ours = whole.get_submodule(last), tail.model.get_submodule(last)
    for expected, found in zip(theirs.parameters(), ours.parameters(), strict=True):
        close(found.grad, expected.grad)


@pytest.mark.parametrize("left", (False, True), ids=("unpadded", "padded"))
@pytest.mark.parametrize("k", CUTS)
@pytest.mark.parametrize("name", DECODERS)
def test_generation_token_by_token_is_the_whole_models(name, k, left):
    whole = model(name, "lm")
    front, tail = halves(whole, k)
    ids, mask = texts(left=True) if left else (texts()[0][:1], torch.ones(1, 9, dtype=torch.long))
    site, server, cache = Session(front), Session(tail), DynamicCache(config=whole.config)
    seen, step, step_mask = mask, ids, mask
    for _ in range(7):
        positions = (seen.cumsum(1) - 1).clamp(min=0)[:, -step.shape[1] :]
        with torch.no_grad():
            expected = whole(
                input_ids=step,
                attention_mask=seen,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
        found = server.step(site.step(step, step_mask), step_mask)
        close(found, expected)
        step, step_mask = expected.argmax(-1, keepdim=True), mask.new_ones(len(ids), 1)
        seen = torch.cat((seen, step_mask), 1)


@pytest.mark.parametrize("name", small_models.DECODERS)
def test_greedy_text_is_what_generate_writes(name):
    whole = model(name, "lm")
    front, tail = halves(whole, 2)
    ids = texts()[0][:1]
    expected = whole.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    site, server, written, step = Session(front), Session(tail), [], ids
    for _ in range(8):
        step = server.step(site.step(step)).argmax(-1, keepdim=True)
        written.append(int(step))
    assert written == expected[0, 9:].tolist()


@pytest.mark.parametrize("name", DECODERS)
def test_a_lost_session_is_rebuilt_by_replaying_its_features(name):
    whole = model(name, "lm")
    front, tail = halves(whole, 1)
    site, server, sent = Session(front), Session(tail), []
    step = texts()[0][:1]
    for _ in range(4):
        sent.append(site.step(step))
        step = server.step(sent[-1]).argmax(-1, keepdim=True)
    again = Session(tail)
    again.step(torch.cat(sent, 1))
    features = site.step(step)
    close(again.step(features), server.step(features))


def test_the_tail_holds_no_embedding_table_and_the_front_no_head():
    for name, head in HEADS:
        front, tail = halves(model(name, head), 1)
        assert not any(isinstance(module, torch.nn.Embedding) for module in tail.modules())
        shapes = {tuple(p.shape) for p in tail.parameters()}
        assert ((VOCABULARY, 24) in shapes) == (head == "lm")  # the output layer, once
        assert not any("score" in n or "lm_head" in n or "pooler" in n for n, _ in front.named_parameters())
        assert not any(parameter.requires_grad for parameter in front.parameters())


def test_the_halves_have_every_layer_once():
    for k in CUTS:
        front, tail = halves(model("llama", "lm"), k)
        assert (len(front.backbone.layers), len(tail.layers())) == (k, LAYERS - k)


def test_cutting_leaves_the_callers_configuration_alone():
    settings = config("qwen3")
    whole = model("qwen3", "lm")
    whole_config = whole.config
    Tail(whole, 2)
    assert whole_config.num_hidden_layers == settings.num_hidden_layers
    assert whole_config.layer_types == settings.layer_types


@pytest.mark.parametrize("k", (-1, LAYERS + 1))
def test_a_cut_outside_the_layers_is_refused(k):
    for half in (Front, Tail):
        with pytest.raises(Refusal) as refused:
            half(model("bert"), k)
        assert refused.value.code == "split.bad_cut"


def test_a_session_that_changes_shape_or_grows_too_long_is_refused_and_stays_usable():
    front, _ = halves(model("llama", "lm"), 1)
    session = Session(front)
    ids = texts()[0][:2]
    session.step(ids)
    for bad, mask, code in (
        (ids[:1], None, "split.session_shape"),
        (ids, torch.ones(2, 3), "split.session_shape"),
        (torch.ones(2, 48, dtype=torch.long), None, "split.too_long"),
    ):
        with pytest.raises(Refusal) as refused:
            session.step(bad, mask)
        assert refused.value.code == code
    assert session.tokens == 9
    session.step(ids[:, :1])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_layer_table_says_the_shapes_that_the_model_has(name):
    whole = model(name)
    tail = Tail(whole, 0)
    for _, layer in tail.layers():
        found = {p: m.weight for p, m in layer.named_modules() if getattr(m, "weight", None) is not None}
        matrices = {path for path, weight in found.items() if weight.dim() == 2}
        assert matrices == {linear.path for linear in linears_of(whole.config)}
        for linear in linears_of(whole.config):
            shape = (linear.outputs, linear.inputs)
            assert tuple(found[linear.path].shape) == (shape[::-1] if name == "gpt2" else shape)
