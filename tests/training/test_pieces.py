"""A batch in pieces learns what it learns as a whole; activations that are computed again change nothing."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.small_models import DECODERS, FAMILIES, HEADS, lora, model
from enclave.slicing.adapters import adapt
from enclave.slicing.checkpointed import compute_again
from enclave.slicing.split import Front, Tail
from enclave.training.data import IGNORED, Examples
from enclave.training.feature_batch import FeatureBatch
from enclave.training.loop import batch_logits, batch_loss, evaluate, round_batches, train
from enclave.training.pieces import apart
from tests.training.test_packing import examples
from tests.training.tiny import settings

CPU = torch.device("cpu")


def learnt(made, pieces):
    """The sum of the pieces' losses, and its gradients."""
    made.zero_grad()
    total = 0.0
    for batch, share in pieces:
        loss = batch_loss(batch_logits(made, batch, CPU), batch)[0] * share
        loss.backward()
        total += float(loss.detach())
    return total, torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])


def pieces_of(rows: Examples, **changes):
    (pieces,) = round_batches(rows, settings(batch_size=16, **changes), round=1, site="a")
    return pieces


def same(one, other) -> bool:
    return one[0] == pytest.approx(other[0], abs=1e-5) and torch.allclose(one[1], other[1], atol=1e-5)


@pytest.mark.parametrize("changes", [{"at_once": 2}, {"at_once": 1, "packing": 20}])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_pieces_of_texts_add_up_to_the_batch(family: str, changes) -> None:
    made = adapt(model(family, "lm"), lora(family), 7)
    whole, pieces = pieces_of(examples()), pieces_of(examples(), **changes)
    assert len(pieces) > 1 and all(len(batch.targets) <= changes["at_once"] for batch, _ in pieces)
    assert sum(batch.rows for batch, _ in pieces) == len(examples())
    expected = learnt(made, whole)
    assert same(learnt(made, pieces), expected) and expected[1].abs().max() > 1e-3


def test_a_piece_is_as_long_as_its_own_longest_row() -> None:
    lengths = [batch.targets.shape[1] for batch, _ in pieces_of(examples(), at_once=1)]
    assert sorted(lengths) == sorted(len(row) for row in examples().tokens)


@pytest.mark.parametrize("targets", [[0, 2, 1, 1, 0, 2, 0], "tags"])
def test_pieces_of_what_is_sorted_or_tagged_add_up(targets) -> None:
    rows = examples()
    if targets == "tags":
        targets = [[-101 - token % 3 if token % 2 else IGNORED for token in row] for row in rows.tokens]
    made = adapt(model("bert"), lora("bert"), 7)
    sorted_rows = Examples(rows.tokens, targets, 0)
    whole, pieces = pieces_of(sorted_rows), pieces_of(sorted_rows, at_once=3)
    if isinstance(targets[0], list):  # what a classifier says of a row, of each of its tokens
        made.forward = tagging(made)
    assert [len(batch.targets) for batch, _ in pieces] == [3, 3, 1]
    assert same(learnt(made, pieces), learnt(made, whole))


def tagging(made):
    from types import SimpleNamespace

    def forward(input_ids, attention_mask):
        states = made.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return SimpleNamespace(logits=made.classifier(states))

    return forward


def test_pieces_of_features_add_up_behind_a_cut() -> None:
    whole = model("llama", "lm")
    ((batch, _),) = pieces_of(examples())
    features = Front(copy.deepcopy(whole), 1)(batch.input_ids, batch.attention_mask)
    tail = Tail(whole, 1)
    behind = FeatureBatch(features, batch.attention_mask, batch.targets, batch.rows)
    pieces = apart(behind, 3)
    assert {name for piece, _ in pieces for name in piece.inputs} == {"features", "attention_mask"}
    assert same(learnt(tail, pieces), learnt(tail, [(behind, 1.0)]))


def test_a_round_in_pieces_counts_and_learns_the_same() -> None:
    found = []
    for change in ({}, {"at_once": 2}, {"at_once": 16}):
        tuned = adapt(model("llama", "lm"), lora("llama"), 7)
        done = train(tuned, examples(), settings(**change), round=1, site="a")
        found.append((done.loss, torch.cat([p.flatten() for p in tuned.parameters() if p.requires_grad])))
    assert same(found[1], found[0])
    assert found[2][0] == found[0][0] and torch.equal(found[2][1], found[0][1])  # nothing to divide


def test_few_rows_are_scored_together() -> None:
    made, seen = model("llama", "lm"), []
    made.register_forward_pre_hook(lambda *given: seen.append(len(given[2]["input_ids"])), with_kwargs=True)
    rows = examples()
    few = Examples(rows.tokens, rows.targets, 0, at_once=3)
    expected, scored = (evaluate(made, part, labels=0) for part in (rows, few))
    assert seen == [7, 3, 3, 1]
    assert scored.correct == expected.correct and scored.loss_sum == pytest.approx(expected.loss_sum)


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_that_are_computed_again_give_the_same_gradients(family: str) -> None:
    """In every family, and really: inside the layers nothing is kept."""
    head = "lm" if (family, "lm") in HEADS and family in DECODERS else "classifier"
    rows = examples()
    part = Examples(rows.tokens, rows.targets if head == "lm" else [0, 1, 2, 0, 1, 2, 0], 0)
    found = []
    for again in (False, True):
        made = adapt(model(family, head), lora(family), 7)
        if again:
            compute_again(made)
        made.train()
        kept = []

        def keep(tensor, kept=kept):
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            ((batch, _),) = pieces_of(part)
            loss = batch_loss(batch_logits(made, batch, CPU), batch)[0]
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])
        found.append((float(loss.detach()), gradient, sum(kept)))
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])
    assert found[1][2] < 0.5 * found[0][2]
