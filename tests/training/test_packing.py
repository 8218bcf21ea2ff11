"""Short rows in one sequence: the same loss and the same gradients, in every family that writes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.small_models import DECODERS, lora, model
from contracts.rows import WholeText
from enclave.slicing.adapters import adapt
from enclave.slicing.models import load
from enclave.slicing.split import Front, Tail
from enclave.training.data import IGNORED, Examples
from enclave.training.feature_batch import FeatureBatch
from enclave.training.loop import batch_logits, batch_loss, round_batches, train
from enclave.training.packing import fit, packed
from enclave.training.row_reader import encode
from tests.training.tiny import LLAMA_ADAPTER, QUESTIONS, causal_spec, settings

LENGTHS = (9, 3, 5, 14, 2, 7, 4)
CPU = torch.device("cpu")


def examples() -> Examples:
    """Random rows; of some the first half is given."""
    draw = torch.Generator().manual_seed(3)
    tokens = [torch.randint(3, 47, (length,), generator=draw).tolist() for length in LENGTHS]
    targets = [ids if row % 2 else [IGNORED] * (len(ids) // 2) + ids[len(ids) // 2 :]
               for row, ids in enumerate(tokens)]  # fmt: skip
    return Examples(tokens, targets, 0)


def batches(**changes: object):
    ((plain, _),) = next(round_batches(examples(), settings(batch_size=16), round=1, site="a"))
    ((together, _),) = next(round_batches(examples(), settings(batch_size=16, **changes), round=1, site="a"))
    return plain, together


@pytest.mark.parametrize("family", DECODERS)
def test_a_packed_batch_has_the_loss_and_the_gradients_of_its_rows(family: str) -> None:
    made = adapt(model(family, "lm"), lora(family), 7)
    plain, together = batches(packing=20)
    found = []
    for batch in (plain, together):
        made.zero_grad()
        loss, _, targets = batch_loss(batch_logits(made, batch, CPU), batch)
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in made.parameters() if p.requires_grad])
        found.append((float(loss), len(targets), gradient))
    assert found[1][:2] == (pytest.approx(found[0][0], abs=1e-5), found[0][1])
    assert torch.allclose(found[1][2], found[0][2], atol=1e-5) and found[0][2].abs().max() > 1e-3
    assert together.targets.numel() < 0.7 * plain.targets.numel() and together.rows == len(LENGTHS)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_a_packed_tail_has_the_loss_of_its_rows(family: str) -> None:
    whole = model(family, "lm")
    plain, together = batches(packing=20)
    features = Front(copy.deepcopy(whole), 1)(plain.input_ids, plain.attention_mask)
    tail = Tail(whole, 1)
    unpacked = FeatureBatch(features, plain.attention_mask, plain.targets, plain.rows)
    (split,) = packed([unpacked], 20)
    losses = [float(batch_loss(batch_logits(tail, batch, CPU), batch)[0].detach())
              for batch in (unpacked, split)]  # fmt: skip
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert torch.equal(split.targets, together.targets)


def test_a_round_learns_the_same_packed(chat_folder: Path) -> None:
    spec = causal_spec(chat_folder, template="model", max_tokens=32)
    base, tokenizer = load(chat_folder, spec)
    rows = encode([*QUESTIONS], tokenizer, spec)
    assert encode([WholeText("fever cough", "train")], tokenizer, spec).targets[0][0] != IGNORED
    found = []
    for change in ({}, {"packing": 64}):
        tuned = adapt(copy.deepcopy(base), LLAMA_ADAPTER, 7)
        loss = train(tuned, rows, settings(**change), round=1, site="a").loss
        found.append((loss, [p.detach().clone() for p in tuned.parameters() if p.requires_grad]))
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-5)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found[0][1], found[1][1], strict=True))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_every_row_stands_in_one_sequence_that_has_room_for_it(lengths: list[int]) -> None:
    bins = fit(lengths, 48)
    assert sorted(row for rows in bins for row in rows) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in rows) <= 48 for rows in bins)
    assert len(bins) == 1 or len(bins) < 2 * sum(lengths) / 48 + 1
    filled = [sum(lengths[row] for row in rows) for rows in bins]
    assert max(filled) - min(filled) <= max(lengths)
