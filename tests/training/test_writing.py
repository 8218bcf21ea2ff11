"""Answers that the model writes itself: greedy, in a fixed number of steps, to a sample that a key draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.small_models import model
from enclave.slicing.adapters import adapt
from enclave.slicing.models import load
from enclave.training.agreement import ONE
from enclave.training.data import IGNORED
from enclave.training.loop import evaluate, train
from enclave.training.row_reader import encode
from enclave.training.writing import AnswerWriter, sample, write
from tests.slicing.small import DECODERS, VOCABULARY
from tests.training.tiny import LLAMA_ADAPTER, QUESTIONS, causal_spec, settings

STEPS = 6


def prompts() -> list[list[int]]:
    draw = torch.Generator().manual_seed(5)
    return [torch.randint(3, VOCABULARY, (length,), generator=draw).tolist() for length in (7, 2, 5, 1)]


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_written_together_is_what_a_model_writes_alone_without_a_cache(name: str) -> None:
    written = model(name, "lm").eval()
    found = write(written, prompts(), STEPS, end=1)
    for prompt, answer in zip(prompts(), found, strict=True):
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(STEPS):
                ids.append(int(written(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        alone = ids[len(prompt) :]
        assert answer == (alone[: alone.index(1)] if 1 in alone else alone)


def test_as_many_steps_are_computed_whatever_is_written() -> None:
    written, calls = model("llama", "lm").eval(), []
    written.register_forward_hook(lambda *_: calls.append(1))
    first = write(written, prompts(), STEPS, end=1)
    ending = first[0][0]
    assert write(written, prompts(), STEPS, end=ending)[0] == []
    assert len(calls) == 2 * STEPS


def test_a_sample_is_the_same_whoever_asks_and_another_with_another_key() -> None:
    one = sample(b"a" * 32, 500, 20)
    assert one == sample(b"a" * 32, 500, 20) == sorted(set(one)) and len(one) == 20
    assert one != sample(b"b" * 32, 500, 20)
    assert set(sample(b"a" * 32, 500, 10)) < set(one)
    assert sample(b"a" * 32, 5, 20) == [0, 1, 2, 3, 4]


def test_a_model_that_has_learnt_its_answers_writes_them(chat_folder: Path) -> None:
    spec = causal_spec(chat_folder, template="model", max_tokens=32)
    base, tokenizer = load(chat_folder, spec)
    tuned, examples = adapt(base, LLAMA_ADAPTER, 7), encode(QUESTIONS, tokenizer, spec)
    writer = AnswerWriter(8, 16, tokenizer, b"k" * 32)

    def scored() -> tuple[int, int, int]:
        scores = writer.scored(tuned, examples, evaluate(tuned, examples, labels=0), "fp32")
        ((rows, f1, rouge_l),) = scores.bins
        assert scores.exact == evaluate(tuned, examples, labels=0).exact
        return rows, f1, rouge_l

    before = scored()
    assert before[0] == 8 and before[1] < 4 * ONE
    train(tuned, examples, settings(local_epochs=60, learning_rate=0.05), round=1, site="a")
    assert scored() == (8, 8 * ONE, 8 * ONE)
    targets = examples.targets[0]
    assert isinstance(targets, list) and targets[0] == IGNORED
