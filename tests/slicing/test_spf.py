"""SPF in a tail: what trains, what stays, what it costs, and that it averages exactly."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.fedavg import fedavg
from contracts.architecture.layers import linears_of
from contracts.architecture.spf_size import size_of
from contracts.manifest import Spf
from contracts.refusal import Refusal
from enclave.slicing.adapters import load_tuned_state, tuned_parameters, tuned_state
from enclave.slicing.rowtuned import RowTunedLinear, as_linear
from enclave.slicing.spf import optimizer_bytes, selected_rows, tune
from enclave.slicing.split import Front, Tail
from tests.slicing.small import FAMILIES, LABELS, LAYERS, MODELS, ONE_EACH, config, model, texts
from tests.support.families import tried

NAMES = tried(FAMILIES)
BOTH = ("attention_output", "dense")


def spf(attention=25.0, dense=12.5, **changes):
    return Spf(attention, dense, **changes)


def tuned_tail(name, settings_, head="classifier", k=1, seed=3):
    tail = Tail(model(name, head), k)
    tune(tail, settings_, seed)
    return tail


def features(name, head="classifier", k=1):
    ids, mask = texts()
    return Front(model(name, head), k)(ids, mask), mask


def steps(tail, batch, number=3, rate=0.05, optimizer=torch.optim.AdamW, **options):
    parameters = list(tuned_parameters(tail).values())
    made = optimizer(parameters, lr=rate, **options)
    for _ in range(number):
        made.zero_grad()
        tail(*batch).logits.sin().mean().backward()
        made.step()
    return made


def sparse(tail):
    return {n: m for n, m in tail.named_modules() if isinstance(m, RowTunedLinear)}


@pytest.mark.parametrize(("name", "head"), ONE_EACH)
def test_the_plan_is_what_is_built_of_every_family(name, head):
    the_plan_is_what_is_built(name, head, 50.0, BOTH)


@pytest.mark.parametrize("lora", ((), BOTH), ids=("bare", "lora"))
@pytest.mark.parametrize("ratio", (12.5, 50.0, 100.0))
@pytest.mark.parametrize(("name", "head"), MODELS)
def test_the_plan_is_what_is_built(name, head, ratio, lora):
    the_plan_is_what_is_built(name, head, ratio, lora)


def the_plan_is_what_is_built(name, head, ratio, lora):
    wanted = spf(ratio, ratio, lora=lora, rows=BOTH, rank=4)
    for k in (0, 2):
        tail = tuned_tail(name, wanted, head, k)
        planned = size_of(config(name), wanted, k, LABELS if head == "classifier" else 0)
        parameters = tuned_parameters(tail)
        assert sum(parameter.numel() for parameter in parameters.values()) == planned.parameters
        assert sum(p.numel() for n, p in parameters.items() if n.endswith(".rows")) == planned.rows
        assert sum(p.numel() for n, p in parameters.items() if "lora" in n) == planned.lora
        assert (planned.rows == planned.full) == (ratio == 100)
        optimizer = steps(tail, features(name, head, k), 1)
        assert optimizer_bytes(optimizer) == planned.optimizer_bytes
        grads = [parameter.grad for parameter in parameters.values()]
        assert sum(grad.numel() * grad.element_size() for grad in grads) == 4 * planned.parameters


def test_the_formula_by_hand_for_a_llama():
    # 3 layers cut after 1: twice Q 1 of 4 heads (6 rows), K and V 1 of 2 (6 rows) of 24 inputs; gate and up
    # 5 of 40 rows of 24, down 3 of 24 rows of 40; LoRA 8·(24 + 24) on o_proj; a head of 24·3.
    planned = size_of(config("llama"), spf(25, 12.5), 1, LABELS)
    assert planned.rows == 2 * (3 * 6 * 24 + 2 * 5 * 24 + 3 * 40)
    assert planned.full == 2 * (24 * 24 + 2 * 12 * 24 + 3 * 40 * 24)
    assert (planned.lora, planned.head, planned.tensors) == (2 * 8 * 48, 72, 2 * 8 + 1)
    assert planned.optimizer_bytes == 8 * planned.parameters + 4 * 17


def test_each_part_can_be_switched_off():
    def kinds(**changes):
        names = tuned_parameters(tuned_tail("llama", spf(**changes)))
        return {n.split("layers.1.")[1] for n in names if "layers.1." in n}

    assert kinds(dense=0, lora=()) == {f"self_attn.{p}_proj.rows" for p in "qkv"}
    assert kinds(attention=0, lora=()) == {f"mlp.{p}_proj.rows" for p in ("gate", "up", "down")}
    assert kinds(attention=0, dense=0) == {f"self_attn.o_proj.lora_{p}.weight" for p in "AB"}
    assert "self_attn.o_proj.base_layer.rows" in kinds(rows=BOTH)


@pytest.mark.parametrize(("name", "head"), MODELS)
def test_before_the_first_step_the_tail_answers_as_before(name, head):
    plain, tuned = Tail(model(name, head), 1), tuned_tail(name, spf(lora=BOTH), head)
    batch = features(name, head)
    for module in tuned.modules():  # a fresh output layer is the one thing that is new
        if isinstance(module, nn.Linear) and module.out_features == LABELS:
            fresh = module
    if head == "classifier":
        for module in plain.modules():
            if isinstance(module, nn.Linear) and module.out_features == LABELS:
                module.load_state_dict(fresh.state_dict())
    torch.testing.assert_close(tuned(*batch).logits, plain(*batch).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_untouched_rows_stay_bit_identical_and_tuned_ones_move(name):
    public = dict(model(name).named_parameters())
    tail = tuned_tail(name, spf(50, 50, lora=BOTH, rows=BOTH), k=0)
    start = {name: p.detach().clone() for name, p in tail.named_parameters()}
    steps(tail, features(name, k=0))
    rows = sparse(tail)
    assert len(rows) == LAYERS * len(linears_of(config(name)))
    for place, module in rows.items():
        weight = public[place.removeprefix("model.").removesuffix(".base_layer") + ".weight"].detach()
        weight = weight.t() if name == "gpt2" else weight
        now, rest = module.weight, torch.ones(len(weight), dtype=torch.bool)
        rest[module.index] = False
        assert 0 < rest.sum() < len(weight)
        assert torch.equal(now[rest], weight[rest])
        assert torch.equal(now[module.index], module.rows) and not torch.equal(now[~rest], weight[~rest])
    for parameter_name, parameter in tail.named_parameters():
        if not parameter.requires_grad and not parameter_name.endswith(".frozen"):
            assert torch.equal(parameter, start[parameter_name])


@pytest.mark.parametrize("name", NAMES)
def test_at_100_percent_it_is_full_tuning_of_those_matrices(name):
    tail, full = tuned_tail(name, spf(100, 100, lora=())), tuned_tail(name, spf(100, 100, lora=()))
    for place, module in list(sparse(full).items()):
        linear = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
        linear.weight.data.copy_(module.rows)
        if module.bias is not None:
            linear.bias = nn.Parameter(module.bias.detach(), requires_grad=False)
        parent, _, last = place.rpartition(".")
        setattr(full.get_submodule(parent), last, linear)
    batch = features(name)
    for one in (tail, full):
        steps(one, batch, 4, 0.01)
    for place, module in sparse(tail).items():
        torch.testing.assert_close(module.weight, full.get_submodule(place).weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_rows_are_the_rows_of_the_full_gradient(name):
    batch = features(name)
    part, whole = tuned_tail(name, spf(50, 25, lora=())), tuned_tail(name, spf(100, 100, lora=()))
    for tail in (part, whole):
        tail(*batch).logits.sin().sum().backward()
    for place, module in sparse(part).items():
        full = whole.get_submodule(place).rows.grad
        assert module.rows.grad.shape == (len(module.index), module.in_features)
        torch.testing.assert_close(module.rows.grad, full[module.index], rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 7), st.integers(1, 4), st.data())
def test_a_row_tuned_linear_has_the_gradients_of_a_linear(inputs, outputs, batch, data):
    index = torch.tensor(sorted(data.draw(st.sets(st.integers(0, outputs - 1), min_size=1))))
    plain = nn.Linear(inputs, outputs)
    ours = RowTunedLinear(plain.weight.detach().clone(), plain.bias, index)
    x = torch.randn(batch, 2, inputs)
    here, there = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours(here).square().sum().backward()
    plain(there).square().sum().backward()
    torch.testing.assert_close(here.grad, there.grad)
    torch.testing.assert_close(ours.rows.grad, plain.weight.grad[index])


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [(torch.optim.AdamW, {"foreach": True}), (torch.optim.AdamW, {"fused": True}),
     (torch.optim.AdamW, {"foreach": False}), (torch.optim.SGD, {})],
)  # fmt: skip
def test_every_optimizer_step_is_seen_by_the_next_product(optimizer, options):
    tail = tuned_tail("llama", spf(lora=()))
    steps(tail, features("llama"), 2, optimizer=optimizer, **options)
    with torch.inference_mode():
        tail(*features("llama"))
    for module in sparse(tail).values():
        assert torch.equal(module.frozen[module.index], module.rows)


def test_a_frozen_tail_serves_without_writing_and_after_loading_writes_once():
    tail = tuned_tail("llama", spf(lora=()))
    batch = features("llama")
    steps(tail, batch, 2, fused=True)
    trained = tuned_state(tail)
    tail.requires_grad_(False)
    module = next(iter(sparse(tail).values()))
    before = tail(*batch).logits
    version = module.frozen._version
    assert torch.equal(tail(*batch).logits, before) and module.frozen._version == version
    fresh = tuned_tail("llama", spf(lora=()))
    assert not torch.equal(fresh(*batch).logits, before)
    load_tuned_state(fresh, trained)
    fresh.requires_grad_(False)
    assert torch.equal(fresh(*batch).logits, before)


def test_two_products_before_one_backward_pass_have_the_sum_of_their_gradients():
    module = RowTunedLinear(torch.randn(4, 3), None, torch.tensor([1, 2]))
    one, two = torch.randn(2, 3), torch.randn(2, 3)
    (module(one).sum() + module(two).sum()).backward()
    torch.testing.assert_close(module.rows.grad, (one.sum(0) + two.sum(0)).expand(2, 3))


def test_a_copied_tail_does_not_share_or_lose_writes():
    tail = tuned_tail("bert", spf())
    batch = features("bert")
    steps(tail, batch, 1)
    twin = copy.deepcopy(tail)
    expected = tail(*batch).logits
    assert torch.equal(twin(*batch).logits, expected)
    steps(twin, batch, 2)
    assert torch.equal(tail(*batch).logits, expected)


def test_changing_rows_between_forward_and_backward_is_an_error_not_a_wrong_gradient():
    module = RowTunedLinear(torch.randn(4, 3), None, torch.tensor([1, 2]))
    output = module(torch.randn(2, 3, requires_grad=True))
    with torch.no_grad():
        module.rows.add_(1)
    module(torch.randn(2, 3))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("ratio", (25.0, 100.0))
def test_it_trains_in_bf16_with_float32_rows(ratio):
    tail = tuned_tail("llama", spf(ratio, ratio, lora=("attention_output",)))
    batch, mask = features("llama")
    with torch.autocast("cpu", torch.bfloat16):
        tail(batch, mask).logits.float().sum().backward()
    half = tuned_tail("llama", spf(ratio, ratio, lora=())).to(torch.bfloat16)
    for module in sparse(half).values():
        module.rows.data = module.rows.data.float()
    half(batch.bfloat16(), mask).logits.float().sum().backward()
    for one in (tail, half):
        for module in sparse(one).values():
            assert module.rows.grad.dtype == torch.float32
            assert module.rows.grad.abs().sum() > 0


def test_gradient_checkpointing_changes_no_gradient():
    plain, thrifty = (tuned_tail("llama", spf(lora=BOTH)) for _ in range(2))
    thrifty.model.activation_checkpointing_enable()
    for tail in (plain, thrifty):
        tail.train()
        tail(*features("llama")).logits.sin().sum().backward()
    for one, other in zip(tuned_parameters(plain).values(), tuned_parameters(thrifty).values(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_initial_values_depend_on_the_seed_alone():
    torch.manual_seed(11)
    one = tuned_state(tuned_tail("gpt2", spf(lora=BOTH)))
    torch.manual_seed(12)
    two = tuned_state(tuned_tail("gpt2", spf(lora=BOTH)))
    other = tuned_state(tuned_tail("gpt2", spf(lora=BOTH), seed=4))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert {name for name in one if not np.array_equal(one[name], other[name])} == {
        name for name in one if "lora_A" in name or "score" in name
    }


def test_the_choice_does_not_depend_on_the_cut():
    for select in ("largest", "smallest", "random"):
        late, early = (selected_rows(tuned_tail("qwen3", spf(select=select), k=k)) for k in (1, 0))
        for name, rows in late.items():
            assert torch.equal(rows, early[name])


def test_averaged_rows_are_the_rows_of_the_average_matrix():
    tails = [tuned_tail("glm4", spf(50, 50, lora=())) for _ in range(3)]
    for number, tail in enumerate(tails):
        steps(tail, features("glm4"), number + 1)
    weights = (5, 1, 2)
    mean = fedavg([(n, tuned_state(tail)) for n, tail in zip(weights, tails, strict=True)])
    averaged = tuned_tail("glm4", spf(50, 50, lora=()))
    load_tuned_state(averaged, mean)
    for place, module in sparse(averaged).items():
        matrices = [tail.get_submodule(place).weight.double() for tail in tails]
        exact = sum(n * m for n, m in zip(weights, matrices, strict=True)) / 8
        assert torch.equal(module.weight, exact.float())


@pytest.mark.parametrize(("changes", "k"), (({"attention": 0, "dense": 0, "lora": ()}, 1), ({}, LAYERS)))
def test_settings_that_tune_nothing_are_refused(changes, k):
    for act in (
        lambda: size_of(config("llama"), spf(**changes), k, LABELS),
        lambda: tuned_tail("llama", spf(**changes), k=k),
    ):
        with pytest.raises(Refusal) as refused:
            act()
        assert refused.value.code == "spf.nothing"


def test_a_conv1d_as_a_linear_answers_the_same():
    conv = model("gpt2").transformer.h[0].attn.c_attn
    x = torch.randn(3, 24)
    torch.testing.assert_close(as_linear(conv)(x), conv(x))


def test_a_plan_needs_no_torch():
    code = (
        "import sys, contracts.architecture.spf_size as _; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
