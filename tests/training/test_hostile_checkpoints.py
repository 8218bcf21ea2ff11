"""Folders that only look like a model: each is refused by name, before memory is given for it."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.training.test_registered_is_proven import change_config, refused

PAGE = "<!DOCTYPE html>"
EMPTY = (2).to_bytes(8, "little") + b"{}"
WEIGHTS = "model.safetensors"
Change = Callable[[Path], Any]


def configured(**changes: Any) -> Change:
    return lambda folder: change_config(folder, **changes)


def headed(change: Callable[[dict[str, Any]], Any], more: bytes = b"") -> Change:
    """The weights under a header in which something is different."""

    def do(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        change(header)
        text = json.dumps(header).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[end:] + more)

    return do


def bias(**changes: Any) -> Change:
    return headed(lambda header: header["encoder.layer.0.output.dense.bias"].update(changes))


def sharded(place: str, *, twice: bool = False) -> Change:
    """Two shards; the second lies, and is said to lie, at `place`."""

    def do(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names, first = sorted(weights), "model-00001-of-00002.safetensors"
        parts = {first: names[: 5 + twice], place: names[5:]}
        for file, part in parts.items():
            (folder / file).parent.mkdir(exist_ok=True)
            save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        reported = {name: file for file, part in parts.items() for name in part}
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": reported}))

    return do


def replaced(name: str, make: Change) -> Change:
    def do(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return do


def filled(number: float) -> Change:
    def do(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        weights["encoder.layer.1.output.dense.bias"][3] = number
        save_file(weights, folder / WEIGHTS, {"format": "pt"})

    return do


def tokens(**vocabulary: int) -> Change:
    """A tokenizer that knows these tokens alone, and two special ones."""

    def do(folder: Path) -> None:
        file = folder / "tokenizer.json"
        reported = json.loads(file.read_text())
        reported["model"]["vocab"] = {"[PAD]": 0, "[UNK]": 1, **vocabulary}
        file.write_text(json.dumps(reported))

    return do


def templated(template: Any) -> Change:
    def do(folder: Path) -> None:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))

    return do


TOO_LARGE = {
    name: configured(**{name: number})
    for name, number in {
        "num_hidden_layers": 10**9,
        "hidden_size": 10**9,
        "vocab_size": 10**12,
        "max_position_embeddings": 10**10,
        "intermediate_size": 10**10,
        "type_vocab_size": 10**11,
    }.items()
}


@pytest.mark.parametrize("change", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_configuration_larger_than_its_files_is_refused_before_it_is_built(
    bert_folder: Path, change: Change
) -> None:
    """It was built first: that took all the memory that the child may have, or the machine has."""
    change(bert_folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(bert_folder).code == "model.larger_than_files"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


@pytest.mark.parametrize(
    ("code", "change"),
    {
        "no layer": ("model.larger_than_files", configured(num_hidden_layers=0)),
        "no head": ("model.unreadable", configured(num_attention_heads=0)),
        "heads in words": ("model.unreadable", configured(num_attention_heads="two")),
        "labels without end": ("model.bad_json", configured(num_labels=10**10)),
        "weights link to themselves": ("model.not_a_file", replaced(WEIGHTS, lambda at: at.symlink_to(at))),
        "config links to itself": ("model.not_a_file", replaced("config.json", lambda at: at.symlink_to(at))),
        "weights are a pipe": ("model.not_a_file", replaced(WEIGHTS, os.mkfifo)),
        "weights without end": ("model.not_a_file", replaced(WEIGHTS, lambda at: at.symlink_to("/dev/zero"))),
        "a vocabulary without end": (
            "model.not_a_file",
            replaced("vocab.txt", lambda at: at.symlink_to("/dev/zero")),
        ),
        "a tokenizer that is a folder": ("model.not_a_file", replaced("tokenizer.json", Path.mkdir)),
        "no bytes": ("model.not_safetensors", replaced(WEIGHTS, Path.touch)),
        "no tensor": (
            "model.no_weights",
            replaced(WEIGHTS, lambda at: at.write_bytes(EMPTY)),
        ),
        "a header longer than the file": (
            "model.truncated",
            replaced(WEIGHTS, lambda at: at.write_bytes((10**6).to_bytes(8, "little") + b"{}")),
        ),
        "a page of words": (
            "model.not_safetensors",
            replaced(WEIGHTS, lambda at: at.write_text(PAGE)),
        ),
        "tensors over each other": ("model.not_safetensors", bias(data_offsets=[0, 64])),
        "a shape of another size": ("model.not_safetensors", bias(shape=[4])),
        "a negative shape": ("model.not_safetensors", bias(shape=[-16])),
        "a shape beyond all numbers": ("model.not_safetensors", bias(shape=[10**18, 10**18])),
        "a type that is a number": ("model.not_safetensors", bias(dtype=3)),
        "bytes behind the last tensor": ("model.not_safetensors", headed(lambda header: None, b"more")),
        "the same tensor in two shards": (
            "model.tensor_twice",
            sharded("model-00002-of-00002.safetensors", twice=True),
        ),
        "a shard in another folder": ("model.unsafe_name", sharded("../model-00002-of-00002.safetensors")),
        "a shard in a folder below": ("model.unsafe_name", sharded("a/model-00002-of-00002.safetensors")),
        "one number is none": ("model.not_finite", filled(float("nan"))),
        "one number is infinite": ("model.not_finite", filled(float("-inf"))),
        "the tokenizer of a smaller model": ("model.other_tokenizer", tokens(fever=2, cough=3)),
        "the tokenizer of a larger model": ("model.tokenizer_beyond", tokens(fever=2, cough=99)),
        "a template that counts for ever": (
            "model.bad_template",
            templated("{% for i in range(10**11) %}{% endfor %}"),
        ),
        "a template within itself": (
            "model.bad_template",
            templated("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
        ),
        "a template that is a number": ("model.bad_template", templated(3)),
    }.values(),
)
def test_what_only_looks_like_a_model_is_refused_by_name(
    bert_folder: Path, code: str, change: Change
) -> None:
    change(bert_folder)
    assert refused(bert_folder).code == code


@pytest.mark.parametrize("make", [Path.touch, lambda at: at.symlink_to(at), lambda at: None])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, make: Change) -> None:
    make(tmp_path / "model")
    assert refused(tmp_path / "model").code == "model.file_missing"
