"""The loop learns, tells how far it is, and gives the same bits for the same seed, round and site."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from contracts.manifest import Training
from contracts.progress import Progress
from contracts.refusal import Refusal
from enclave.slicing.adapters import adapt, load_tuned_state, tuned_state
from enclave.slicing.models import load
from enclave.training import rates
from enclave.training.data import Examples
from enclave.training.loop import derive_seed, evaluate, train
from enclave.training.row_reader import encode
from enclave.training.schedule import share_of_rate
from enclave_host.base_models import EMBEDDED, resolve
from enclave_host.pinning import pin
from tests.training.tiny import (
    BERT_ADAPTER,
    LABELS,
    LLAMA_ADAPTER,
    ROWS,
    TEXTS,
    causal_spec,
    classifier_spec,
    settings,
)


@pytest.fixture
def bert(bert_folder: Path) -> tuple[torch.nn.Module, Examples]:
    spec = classifier_spec(bert_folder)
    base, tokenizer = load(bert_folder, spec)
    return adapt(base, BERT_ADAPTER, 7), encode(ROWS, tokenizer, spec)


def trained(
    bert: tuple[torch.nn.Module, Examples], start: dict[str, Tensor], *, round: int = 1, site: str = "a",
    training: Training | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    load_tuned_state(bert[0], start)
    train(bert[0], bert[1], training or settings(), round=round, site=site)
    return tuned_state(bert[0])


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_round_and_site_train_the_same_bits(bert: tuple, precision: str) -> None:
    start, training = tuned_state(bert[0]), settings(precision=precision)
    torch.manual_seed(1)
    first = trained(bert, start, training=training)
    torch.manual_seed(2)
    assert same(first, trained(bert, start, training=training))
    assert not same(first, start)


def test_another_seed_round_or_site_trains_in_another_order(bert: tuple) -> None:
    start = tuned_state(bert[0])
    first = trained(bert, start)
    for other in (
        trained(bert, start, round=2),
        trained(bert, start, site="b"),
        trained(bert, start, training=settings(seed=8)),
    ):
        assert not same(first, other)


def test_seeds_of_different_rounds_and_sites_differ() -> None:
    seeds = {
        derive_seed(seed, round, site) for seed in (1, 11) for round in (1, 11) for site in ("1", "11", "a")
    }
    assert len(seeds) == 12


def test_training_touches_the_tuned_parameters_alone(bert: tuple) -> None:
    frozen = {n: p.clone() for n, p in bert[0].named_parameters() if not p.requires_grad}
    before = tuned_state(bert[0])
    trained(bert, before)
    assert all(torch.equal(frozen[n], p) for n, p in bert[0].named_parameters() if n in frozen)
    assert not any(np.array_equal(before[n], t) for n, t in tuned_state(bert[0]).items() if "lora_B" in n)


def test_it_learns_to_classify(bert: tuple) -> None:
    model, examples = bert
    before = evaluate(model, examples, labels=3)
    result = train(model, examples, settings(local_epochs=40, learning_rate=0.02), round=1, site="a")
    after = evaluate(model, examples, labels=3)
    assert rates.accuracy(after) == 1.0 > rates.accuracy(before)
    assert rates.loss(after) < rates.loss(before) / 2
    assert result.samples == len(ROWS)
    assert rates.loss(after) < result.loss < rates.loss(before) + 0.1


def test_evaluation_counts_what_a_row_at_a_time_gives(bert: tuple) -> None:
    model, examples = bert
    scores = evaluate(model, examples, labels=3)
    confusion, loss = torch.zeros(3, 3, dtype=torch.long), 0.0
    for tokens, target in zip(examples.tokens, examples.targets, strict=True):
        ids = torch.tensor([tokens])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].detach()
        confusion[target, logits.argmax()] += 1
        loss -= float(logits.log_softmax(-1)[target])
    assert [list(row) for row in scores.confusion] == confusion.tolist()
    assert scores.loss_sum == pytest.approx(loss, rel=1e-4)
    assert scores.rows == scores.predictions == len(ROWS)


def test_progress_is_told_to_the_end_and_never_backwards(bert: tuple) -> None:
    reported: list[Progress] = []
    train(bert[0], bert[1], settings(local_epochs=3), round=1, site="a", progress=reported.append)
    assert [p.done for p in reported] == sorted({p.done for p in reported})
    assert (reported[-1].done, reported[-1].of, reported[-1].stage) == (
        3 * len(ROWS),
        3 * len(ROWS),
        "training",
    )
    assert all(p.rows_per_second for p in reported)
    evaluate(bert[0], bert[1], labels=3, progress=reported.append)
    assert (reported[-1].done, reported[-1].stage) == (len(ROWS), "evaluating")


def test_a_loss_that_is_not_a_number_stops_training_with_a_code(bert: tuple) -> None:
    state = tuned_state(bert[0])
    state["base_model.model.classifier.weight"].fill(math.inf)
    with pytest.raises(Refusal) as caught:
        trained(bert, state)
    assert caught.value.code == "training.diverged"


def test_there_is_no_dropout_to_depend_on(bert: tuple) -> None:
    model, examples = bert
    ids = torch.tensor([examples.tokens[0]])
    model.train()
    first, second = (model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for _ in range(2))
    assert torch.equal(first, second)


def test_a_causal_model_learns_the_text(llama_folder: Path) -> None:
    spec = causal_spec(llama_folder)
    base, tokenizer = load(llama_folder, spec)
    model = adapt(base, LLAMA_ADAPTER, 7)
    examples = encode(TEXTS, tokenizer, spec)
    before = evaluate(model, examples, labels=0)
    train(model, examples, settings(local_epochs=20, learning_rate=0.05), round=1, site="a")
    after = evaluate(model, examples, labels=0)
    assert math.exp(rates.loss(after)) < 0.8 * math.exp(rates.loss(before))
    assert after.predictions == sum(len(tokens) - 1 for tokens in examples.tokens)
    assert after.confusion == ()
    ids = [torch.tensor([tokens]) for tokens in examples.tokens]
    with torch.no_grad():
        own = [
            model(input_ids=i, attention_mask=torch.ones_like(i), labels=i).loss * (i.numel() - 1)
            for i in ids
        ]
    assert after.loss_sum == pytest.approx(float(sum(own)), rel=1e-4)


def test_a_causal_text_of_one_token_costs_nothing(llama_folder: Path) -> None:
    spec = causal_spec(llama_folder)
    base, _ = load(llama_folder, spec)
    model = adapt(base, LLAMA_ADAPTER, 7)
    single = Examples([[4]], [[4]], 0)
    assert train(model, single, settings(), round=1, site="a").loss == 0.0
    assert evaluate(model, single, labels=0).predictions == 0


def test_the_embedded_minilm_learns() -> None:
    folder = resolve(EMBEDDED)
    spec = classifier_spec(folder, source=EMBEDDED, files=pin(folder))
    base, tokenizer = load(folder, spec)
    model = adapt(base, BERT_ADAPTER, 7)
    examples = encode(ROWS, tokenizer, spec)
    training = settings(local_epochs=10, learning_rate=0.002, precision="bf16")
    train(model, examples, training, round=1, site="a")
    scores = evaluate(model, examples, labels=len(LABELS), precision="bf16")
    assert rates.accuracy(scores) == 1.0


def test_the_learning_rate_rises_then_falls_over_all_rounds_and_a_round_alone_takes_its_own_share():
    """8 rows in batches of 4, 5 rounds of 2 epochs: 20 steps, of which the first 4 rise."""
    plain = Training(rounds=5, local_epochs=2, batch_size=4, learning_rate=1.0, seed=0)

    def shares(**changes):
        training = msgspec.structs.replace(plain, **changes)
        return [share_of_rate(training, 8, round, step) for round in range(1, 6) for step in range(4)]

    assert shares() == [1.0] * 20
    linear = shares(schedule="linear", warmup=0.2)
    assert linear[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert linear[4:] == pytest.approx([1 - step / 16 for step in range(16)])
    cosine = shares(schedule="cosine")
    assert cosine[0] == 1.0 and cosine[10] == pytest.approx(0.5) and cosine[-1] < 0.01
