"""Rows come in strictly, by line number, and leave in batches that lose none."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from contracts.rows import TextLabel
from enclave.slicing.models import load
from enclave.training import row_reader
from enclave.training.data import IGNORED, Examples, collate
from enclave.training.row_reader import encode, read_rows
from tests.training.tiny import LABELS, TEXTS, causal_spec, classifier_spec

SPEC = ModelSpec("tiny", "sequence-classification", {"config.json": "0" * 64}, LABELS, 16)


def line(text: str = "fever", label: str = "injury", split: str = "train", **more: object) -> str:
    return json.dumps({"kind": "text-label", "text": text, "label": label, "split": split, **more})


HELD_OUT = (line(split="validation"), line(split="test"))


def written(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_rows_are_read_by_split(tmp_path: Path) -> None:
    file = written(tmp_path, line("a"), line("b", split="validation"), line("c", split="test"))
    rows = read_rows(file, SPEC, "text-label")
    assert (rows.train, rows.validation, rows.test) == (
        [TextLabel("a", "injury", "train")],
        [TextLabel("b", "injury", "validation")],
        [TextLabel("c", "injury", "test")],
    )


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (line(label="secret-diagnosis"), "rows.unknown_label"),
        ("secret-diagnosis", "rows.invalid"),
        (line(split="secret-diagnosis"), "rows.invalid"),
        (line(extra="secret-diagnosis"), "rows.invalid"),
        (json.dumps({"kind": "text-label", "text": 5, "label": "injury", "split": "train"}), "rows.invalid"),
        (json.dumps({"text": "secret", "label": "injury", "split": "train"}), "rows.invalid"),
        ("", "rows.invalid"),
        ("[" * 100_000, "rows.invalid"),
    ],
)
def test_a_bad_line_is_refused_by_number_and_never_by_content(tmp_path: Path, bad: str, code: str) -> None:
    file = written(tmp_path, line(), line(split="test"), bad, line())
    with pytest.raises(Refusal) as caught:
        read_rows(file, SPEC, "text-label")
    assert caught.value.code == code
    assert caught.value.facts["line"] == 3
    assert "secret" not in str(caught.value)


def test_a_line_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(line().encode() + b'\n{"text": "\xff", "label": "injury", "split": "train"}\n')
    with pytest.raises(Refusal) as caught:
        read_rows(file, SPEC, "text-label")
    assert (caught.value.code, caught.value.facts["line"]) == ("rows.invalid", 2)


@pytest.mark.parametrize("lacking", ["train", "validation", "test"])
def test_a_dataset_without_rows_in_a_split_is_refused(tmp_path: Path, lacking: str) -> None:
    there = [line(split=split) for split in ("train", "validation", "test") if split != lacking]
    with pytest.raises(Refusal) as caught:
        read_rows(written(tmp_path, *there), SPEC, "text-label")
    assert (caught.value.code, caught.value.facts) == ("rows.none", {"split": lacking})


def test_limits_on_rows_lines_and_bytes_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, line(), *HELD_OUT, line("x" * 500))
    for name, limit, code in (
        ("MAX_ROWS", 2, "rows.too_large"),
        ("MAX_LINE_BYTES", 200, "rows.invalid"),
        ("MAX_FILE_BYTES", 200, "rows.too_large"),
    ):
        with monkeypatch.context() as patched, pytest.raises(Refusal) as caught:
            patched.setattr(row_reader, name, limit)
            read_rows(file, SPEC, "text-label")
        assert caught.value.code == code
    assert len(read_rows(file, SPEC, "text-label").train) == 2


def test_a_spelling_gets_the_id_of_the_label_that_it_stands_for(tmp_path: Path, bert_folder: Path) -> None:
    spec = classifier_spec(bert_folder, spellings={"INJURY": "injury", "Injury\u200b": "injury"})
    lines = [line(label=label) for label in ("injury", "INJURY", "Injury\u200b", "metabolic")]
    lines += [HELD_OUT[0], line(split="test", label="INJURY")]
    rows = read_rows(written(tmp_path, *lines), spec, "text-label")
    _, tokenizer = load(bert_folder, spec)
    assert encode(rows.train, tokenizer, spec).targets == [1, 1, 1, 2]
    with pytest.raises(Refusal) as caught:
        read_rows(written(tmp_path, line(label="injurY")), spec, "text-label")
    assert caught.value.code == "rows.unknown_label"


def test_label_ids_follow_the_manifests_order_and_texts_are_cut(bert_folder: Path) -> None:
    spec = classifier_spec(bert_folder, max_tokens=8)
    _, tokenizer = load(bert_folder, spec)
    examples = encode(
        [TextLabel("fever " * 40, "metabolic", "train"), TextLabel("", "infection", "train")], tokenizer, spec
    )
    assert examples.targets == [2, 0]
    assert [len(tokens) for tokens in examples.tokens] == [8, 1] and examples.cut == 1


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=150),
    size=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_an_epoch_holds_every_row_once(lengths: list[int], size: int, seed: int) -> None:
    examples = Examples([[index + 1] * n for index, n in enumerate(lengths)], list(range(len(lengths))), 0)
    for batches in (
        list(examples.training_batches(size, random.Random(seed))),
        list(examples.evaluation_batches(size)),
    ):
        assert sorted(int(target) for batch in batches for target in batch.targets) == examples.targets
        for batch in batches:
            assert batch.rows == len(batch.targets) <= size
            assert [len(examples.tokens[i]) for i in batch.targets] == batch.attention_mask.sum(1).tolist()
            assert torch.equal(batch.input_ids > 0, batch.attention_mask > 0)


def test_the_order_is_a_function_of_the_seed() -> None:
    examples = Examples([[1] * (1 + i % 7) for i in range(60)], list(range(60)), 0)
    orders = [
        [batch.targets.tolist() for batch in examples.training_batches(4, random.Random(seed))]
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_bucketing_pads_less_than_plain_shuffling() -> None:
    lengths = random.Random(0)
    examples = Examples([[1] * lengths.randint(4, 128) for _ in range(512)], [0] * 512, 0)
    padded = sum(batch.input_ids.numel() for batch in examples.training_batches(16, random.Random(1)))
    order = random.Random(1).sample(range(512), 512)
    plain = sum(collate(examples, order[i : i + 16]).input_ids.numel() for i in range(0, 512, 16))
    real = sum(map(len, examples.tokens))
    assert padded - real < (plain - real) / 4


def test_a_causal_target_is_the_text_itself_without_padding(llama_folder: Path) -> None:
    spec = causal_spec(llama_folder)
    examples = encode(TEXTS[:3], load(llama_folder, spec)[1], spec)
    batch = collate(examples, [0, 1, 2])
    assert torch.equal(batch.targets == IGNORED, batch.attention_mask == 0)
    assert torch.equal(batch.targets[batch.targets != IGNORED], batch.input_ids[batch.attention_mask == 1])
