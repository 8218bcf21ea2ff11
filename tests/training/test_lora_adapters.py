"""What is tuned, how it starts, and that nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from contracts.manifest import Lora
from contracts.refusal import Refusal
from enclave.slicing.adapters import adapt, head_modules, load_tuned_state, tuned_state
from enclave.slicing.models import load
from tests.training.tiny import BERT_ADAPTER, LABELS, LLAMA_ADAPTER, causal_spec, classifier_spec


def adapted_bert(folder: Path, seed: int = 7) -> torch.nn.Module:
    return adapt(load(folder, classifier_spec(folder))[0], BERT_ADAPTER, seed)


def test_the_same_seed_gives_the_same_start_and_another_seed_another(bert_folder: Path) -> None:
    torch.manual_seed(1)
    first = tuned_state(adapted_bert(bert_folder, 7))
    torch.manual_seed(2)
    again, other = tuned_state(adapted_bert(bert_folder, 7)), tuned_state(adapted_bert(bert_folder, 8))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    head = "base_model.model.classifier.weight"
    assert not np.array_equal(first[head], other[head])
    assert any("lora_A" in name and not np.array_equal(first[name], other[name]) for name in first)


def test_seeding_leaves_the_callers_random_numbers_alone(bert_folder: Path) -> None:
    model, _ = load(bert_folder, classifier_spec(bert_folder))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    adapt(model, BERT_ADAPTER, 7)
    assert torch.equal(torch.rand(1), expected)


def test_the_tuned_state_is_lora_pooler_and_head_under_peft_names(bert_folder: Path) -> None:
    model = adapted_bert(bert_folder)
    state = tuned_state(model)
    assert state["base_model.model.classifier.weight"].shape == (len(LABELS), 16)
    assert "base_model.model.bert.pooler.dense.weight" in state
    # query, value and three "dense" in each of two layers, A and B; no LoRA inside the head
    assert sum("lora_" in name for name in state) == 2 * 5 * 2
    assert not any("lora_" in name and "pooler" in name for name in state)


def test_a_causal_model_tunes_lora_alone(llama_folder: Path) -> None:
    base, _ = load(llama_folder, causal_spec(llama_folder))
    assert head_modules(base) == ()
    state = tuned_state(adapt(base, LLAMA_ADAPTER, 7))
    assert len(state) == 2 * 2 * 2
    assert all("lora_" in name for name in state)


def test_a_decoder_can_classify(llama_folder: Path) -> None:
    base, _ = load(llama_folder, classifier_spec(llama_folder))
    state = tuned_state(adapt(base, LLAMA_ADAPTER, 7))
    assert state["base_model.model.score.weight"].shape == (len(LABELS), 16)


def test_a_loaded_state_comes_back_bit_for_bit(bert_folder: Path) -> None:
    model = adapted_bert(bert_folder)
    state = {
        name: np.random.default_rng(1).standard_normal(tensor.shape, np.float32)
        for name, tensor in tuned_state(model).items()
    }
    load_tuned_state(model, state)
    found = tuned_state(model)
    assert all(np.array_equal(found[name], state[name]) for name in state)


def test_a_tuned_state_is_a_copy(bert_folder: Path) -> None:
    model = adapted_bert(bert_folder)
    state = tuned_state(model)
    for tensor in state.values():
        tensor += 1
    assert not any(np.array_equal(state[name], tensor) for name, tensor in tuned_state(model).items())


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_a_foreign_state_is_refused_and_changes_nothing(bert_folder: Path, fault: str) -> None:
    model = adapted_bert(bert_folder)
    before = tuned_state(model)
    state = {name: tensor + 1 for name, tensor in before.items()}
    last = list(state)[-1]
    if fault == "missing":
        del state[last]
    elif fault == "extra":
        state["base_model.model.bert.embeddings.word_embeddings.weight"] = np.zeros(1, np.float32)
    else:
        state[last] = state[last].repeat(2)
    with pytest.raises(Refusal) as caught:
        load_tuned_state(model, state)
    assert caught.value.code == ("tensors.shape" if fault == "shape" else "tensors.names")
    assert all(np.array_equal(before[name], tensor) for name, tensor in tuned_state(model).items())


@pytest.mark.parametrize("target", ["q_proj", "word_embeddings", "LayerNorm", "classifier", "uery"])
def test_a_target_that_is_no_linear_layer_of_the_base_is_refused(bert_folder: Path, target: str) -> None:
    base, _ = load(bert_folder, classifier_spec(bert_folder))
    with pytest.raises(Refusal) as caught:
        adapt(base, Lora(2, 4, ("query", target)), 7)
    assert (caught.value.code, caught.value.facts) == ("adapter.unknown_target", {"target": target})
