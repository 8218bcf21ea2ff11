"""Masked training behind a public front: the same bits as unmasked, and nothing of the layers that are
there."""

import numpy as np
import pytest
import torch

from benchmarks import small_models
from contracts.architecture.numbering import layer_of
from contracts.refusal import Refusal
from enclave.masking.residues import WIDTHS
from enclave.slicing.adapters import load_tuned_state, tuned_state
from enclave.slicing.placement import Profile, Shape, offload
from enclave.slicing.split import Front, Tail
from enclave_host.unmasked import UnmaskedEngine, WrittenStore, cut_in_memory
from tests.masking import attacks
from tests.masking.test_training_bit_for_bit import STEPS, batches
from tests.masking.tiny import ARCHITECTURES, LocalAccelerator, cut_model, model, sorts
from tests.support.families import tried

FIRST = 1


def cut_tail(name, folder, widths=WIDTHS):
    """What stands behind the first of two layers, cut, and the front."""
    tail = Tail(model(name), FIRST)
    made = cut_in_memory(
        tail.model, small_models.lora(name), 5, WrittenStore(folder / "store", widths), tail=tail
    )
    return made, Front(model(name), FIRST)


def train(cut, front, name):
    """Losses and final tuned parameters, as tests/masking/test_training_bit_for_bit.py trains."""
    parameters = [parameter for parameter in cut.model.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.0), []
    for ids, mask, targets in batches(name):
        logits = cut.model(features=front(ids, mask).bfloat16().float(), attention_mask=mask).logits
        if not sorts(name):
            kept = mask[:, 1:].bool()
            logits, targets = logits[:, :-1][kept], targets[:, 1:][kept]
        loss = torch.nn.functional.cross_entropy(logits, targets) if len(targets) else logits.sum() * 0.0
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, tuned_state(cut.model.model)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", tried(ARCHITECTURES))
def test_masked_training_is_unmasked_training_bit_for_bit(name, tmp_path):
    cut, front = cut_tail(name, tmp_path)
    initial = tuned_state(cut.model.model)
    assert not any(".0." in key for key in initial if ".lora_" in key)
    assert not any(".0." in layer for layer in cut.store.layers)
    cut.attach(UnmaskedEngine(cut.store))
    expected = train(cut, front, name)
    masked = offload(cut, accelerator := LocalAccelerator(cut.store.folder), tmp_path / "vault")
    shapes = [Shape(*ids.shape, backward=True) for ids, _, _ in batches(name)]
    assert masked.begin_round(1, shapes[:3]) == 3
    load_tuned_state(cut.model.model, initial)
    losses, state = train(cut, front, name)
    assert losses == expected[0]
    assert all(np.array_equal(state[key], expected[1][key]) for key in initial)
    assert any(not np.array_equal(state[key], initial[key]) for key in initial)
    measures = masked.measures()
    assert measures["steps"] == STEPS and measures["pads_left"] == 0
    assert measures["pads_used"] > 0 and measures["pads_inline"] > 0
    assert {product.direction for product, _ in accelerator.seen} == {"forward", "backward"}


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name,width", (("bert", 3), ("gpt2", 4), ("llama", 3), ("llama", 4)))
def test_nothing_goes_out_in_clear_but_what_the_host_has_handed_in(name, width, tmp_path):
    """The first layer's projections of features, frozen norms between them; all later words are uniform."""
    cut, front = cut_tail(name, tmp_path, [width])
    offload(cut, accelerator := LocalAccelerator(cut.store.folder), tmp_path / "vault")
    mask = torch.ones(8, 16, dtype=torch.long)
    features = front(torch.full((8, 16), 5), mask)
    for _ in range(6):
        cut.model(features=features, attention_mask=mask).logits.sum().backward()
    rows = {}
    for product, words in accelerator.seen:
        lines = zip(words.low, words.high, strict=True)
        rows.setdefault(product, []).extend(low.tobytes() + high.tobytes() for low, high in lines)
    clear = {product for product, seen in rows.items() if len(set(seen)) == len(set(seen[:128])) <= 128}
    assert {(product.direction, layer_of(product.layer)) for product in clear} == {("forward", FIRST)}
    assert len({product.layer for product in clear}) == 1
    hidden = b"".join(w.low.tobytes() + w.high.tobytes() for p, w in accelerator.seen if p not in clear)
    hidden = hidden[: len(hidden) // 4 * 4]
    assert abs(attacks.chi_square(hidden)) < 5 and attacks.bit_bias(hidden) < 5
    assert all(len(set(seen)) == len(seen) for product, seen in rows.items() if product not in clear)


@pytest.mark.usefixtures("engine")
def test_a_wrong_answer_to_features_in_clear_is_found_too(tmp_path):
    cut, front = cut_tail("llama", tmp_path)
    offload(cut, accelerator := LocalAccelerator(cut.store.folder), tmp_path / "vault")
    ids = torch.full((2, 16), 5)
    right, answers = accelerator.answer, []

    def wrong():
        answers.append(right())
        answers[0].low[0, 0] += len(answers) == 1  # the very first: features in clear
        return answers[-1]

    accelerator.answer = wrong
    with pytest.raises(Refusal) as caught:
        cut.model(features=front(ids, torch.ones_like(ids)), attention_mask=torch.ones_like(ids))
    assert caught.value.code == "masking.wrong_product" and len(answers) == 1


def test_without_a_front_every_product_has_its_pad(tmp_path):
    assert not Profile(cut_model("llama", "lora", tmp_path)).public
