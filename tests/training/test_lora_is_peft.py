"""Our LoRA and our prefix against peft: the same draws, answers, gradients and steps, bit for bit."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, TaskType, get_peft_model, get_peft_model_state_dict
from peft.helpers import disable_input_dtype_casting
from peft.tuners.prefix_tuning import PrefixEncoder
from torch import nn

from contracts.lora_scale import lora_scale
from contracts.manifest import Lora, Prefix
from enclave.slicing.adapters import adapt, head_modules, tuned_state
from enclave.slicing.lora import put_lora
from enclave.slicing.prefix import tune_prefix
from enclave.training.loop import precision_of
from tests.slicing.small import LABELS, model, texts

TARGETS = {
    "bert": ("query", "value", "dense"),
    "gpt2": ("c_attn", "c_proj"),
    "llama": ("q_proj", "v_proj", "down_proj"),
    "qwen3": ("q_proj", "o_proj"),
    "glm4": ("q_proj", "gate_up_proj"),
}
RANK, ALPHA, SEED = 3, 5, 11
DECODERS = [name for name in TARGETS if name != "bert"]
KINDS = [("bert", "classifier"), *((name, head) for name in DECODERS for head in ("classifier", "lm"))]


def by_peft(base, targets, seed=SEED, dropout=0.0, rslora=False):
    """What peft makes of the model, with a fresh output layer drawn before it, as `adapt` draws one."""
    head = list(head_modules(base))
    settings = LoraConfig(
        task_type=TaskType.SEQ_CLS if head else TaskType.CAUSAL_LM,
        r=RANK, lora_alpha=ALPHA, lora_dropout=dropout, use_rslora=rslora, target_modules=list(targets),
        modules_to_save=head or None,
    )  # fmt: skip
    torch.manual_seed(seed)
    if head:
        outputs = next(m for m in base.get_submodule(head[-1]).modules() if isinstance(m, nn.Linear))
        nn.init.normal_(outputs.weight, std=base.config.initializer_range)
        if outputs.bias is not None:
            nn.init.zeros_(outputs.bias)
    return get_peft_model(base, settings)


def taught(tuned, head, precision, steps=3):
    """All losses and gradients of a few steps, and the parameters after them, in the model's order."""
    ids, mask = texts()
    parameters = [parameter for parameter in tuned.train().parameters() if parameter.requires_grad]
    torch.manual_seed(SEED)  # of what is dropped
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.0)
    seen = []
    for _ in range(steps):
        with precision_of(precision, torch.device("cpu")):
            logits = tuned(input_ids=ids, attention_mask=mask).logits
        targets = torch.arange(4) % LABELS if head == "classifier" else ids.clamp(max=logits.shape[-1] - 1)
        loss = nn.functional.cross_entropy(logits.float().flatten(0, -2), targets.flatten())
        loss.backward()
        seen += [loss.detach(), *(parameter.grad.clone() for parameter in parameters)]
        optimizer.step()
        optimizer.zero_grad()
    return [*seen, *(parameter.detach() for parameter in parameters)]


@pytest.mark.parametrize(
    ("dropout", "rslora"), ((0.0, False), (0.25, True)), ids=("plain", "dropout and rsLoRA")
)
@pytest.mark.parametrize("precision", ("fp32", "bf16"))
@pytest.mark.parametrize(("name", "head"), KINDS)
def test_lora_learns_bit_for_bit_what_peft_learns(name, head, precision, dropout, rslora):
    base = model(name, head)
    theirs, ours = (
        by_peft(copy.deepcopy(base), TARGETS[name], SEED, dropout, rslora),
        adapt(base, Lora(RANK, ALPHA, TARGETS[name], dropout, rslora), SEED),
    )
    start, same = tuned_state(ours), get_peft_model_state_dict(theirs, save_embedding_layers=False)
    assert start.keys() == same.keys()
    assert all(np.array_equal(start[key], same[key].numpy()) for key in start)
    with disable_input_dtype_casting(theirs, precision == "bf16"):
        expected = taught(theirs, head, precision)
    found = taught(ours, head, precision)
    assert len(expected) == len(found) > len(start)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    assert all(not np.array_equal(start[key], now) for key, now in tuned_state(ours).items() if "lora" in key)


@pytest.mark.parametrize("rslora", (False, True))
def test_what_a_release_says_of_the_scale_is_what_was_computed(rslora):
    adapter = Lora(7, 5, ("0",), rslora=rslora)
    base = nn.Sequential(nn.Linear(6, 4))
    put_lora(base, ["0"], adapter)
    assert base[0].scale == lora_scale(adapter)


def test_what_is_dropped_is_drawn_anew_in_training_and_nothing_is_in_an_answer():
    base = nn.Sequential(nn.Linear(64, 4))
    put_lora(base, ["0"], Lora(2, 4, ("0",), dropout=0.5))
    nn.init.ones_(base[0].lora_B.weight)
    features = torch.randn(1, 64)
    base.train()
    assert not torch.equal(base(features), base(features))
    base.eval()
    assert torch.equal(base(features), base(features))


def test_a_pair_beside_a_half_precision_linear_stays_in_single_precision():
    base = nn.Sequential(nn.Linear(6, 4).to(torch.bfloat16))
    put_lora(base, ["0"], Lora(2, 4, ("0",)))
    assert {base[0].lora_A.weight.dtype, base[0].lora_B.weight.dtype} == {torch.float32}
    nn.init.ones_(base[0].lora_B.weight)
    features = torch.randn(3, 6, dtype=torch.bfloat16)
    plain, answer = base[0].base_layer(features), base(features)
    assert answer.dtype == torch.bfloat16 and not torch.equal(answer, plain)


@pytest.mark.parametrize("name", ("bert", "llama"))
def test_a_prefix_is_drawn_as_peft_draws_it(name):
    base = model(name, "classifier")
    config = base.config
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    size = config.hidden_size // config.num_attention_heads
    settings = PrefixTuningConfig(
        num_virtual_tokens=5, token_dim=heads * size, num_attention_heads=heads,
        num_layers=config.num_hidden_layers, num_transformer_submodules=1, prefix_projection=False,
    )  # fmt: skip
    tuned = tune_prefix(base, Prefix(5), SEED)
    torch.manual_seed(SEED)
    head = base.get_submodule(head_modules(base)[-1])
    torch.empty(head.weight.shape).normal_()  # the fresh output layer is drawn first
    assert torch.equal(tuned.prompt_embeddings, PrefixEncoder(settings).embedding.weight)


def test_what_an_enclave_loads_holds_no_peft():
    from enclave_host.closure import outside

    assert all("peft" not in outside(program) for program in ("aggregator", "client_slice", "split_server"))
