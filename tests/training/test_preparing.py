"""Preparing gives the same bytes wherever it is done; they depend on no labels, adapter or threads."""

import hashlib
import json
import random

import pytest
import torch

from benchmarks import small_models
from contracts.refusal import Refusal
from enclave.slicing.prepared import open_prepared
from enclave_host import base_models, preparing
from enclave_host.pinning import pin
from enclave_host.preparing.preparation import prepare
from enclave_host.preparing.quantising import fix_weight, parts
from tests.programs.conftest import make_model

MINILM = "57b43dfd9b4ecc4b7d2534ffb12dced14e7d0e7eaec018ae8d469688165a2468"
"""The hash that every machine comes to; it changes with the format and with nothing else."""


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def files_of(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_threads_change_no_bit_of_a_weight(threads):
    """Wide enough that torch divides the work among them."""
    weight = torch.randn(700, 1200, generator=torch.Generator().manual_seed(3)) ** 3
    made = []
    for count in (1, 3):
        threads(count)
        fixed = fix_weight(weight.split(300), 700)
        made.append((fixed.values, fixed.scale, parts(fixed.values), parts(fixed.values.t())))
    assert torch.equal(made[0][0], made[1][0]) and torch.equal(made[0][1], made[1][1])
    assert made[0][2:] == made[1][2:]


def test_a_weight_is_rounded_as_the_protocol_says():
    """In exact arithmetic of single numbers, by IEEE's rules: no library's choice is left."""
    draw = random.Random(5)
    row = [draw.gauss(0, 1) for _ in range(40)]
    weight = torch.tensor([row, [0.0] * 40, [1e-44] * 40])
    fixed = fix_weight([weight], 3)
    scale = torch.tensor(max(map(abs, weight[0].tolist()))) / 127
    assert fixed.scale.tolist() == [scale.item(), 1.0, 1.0]
    assert fixed.values[0].tolist() == [round((torch.tensor(w) / scale).item()) for w in weight[0].tolist()]
    assert not fixed.values[1:].any()


def test_a_child_and_this_process_prepare_the_same(tmp_path):
    make_model(tmp_path / "model")
    files = pin(tmp_path / "model")
    heard = []
    found = preparing.prepare_in_child(
        tmp_path / "model", files, "sequence-classification", tmp_path / "child", heard.append
    )
    assert found == prepare(tmp_path / "model", files, "sequence-classification", tmp_path / "here")
    assert found == prepare(tmp_path / "model", files, "sequence-classification", None)
    assert found == hashlib.sha256((tmp_path / "here" / "index.json").read_bytes()).hexdigest()
    assert files_of(tmp_path / "child") == files_of(tmp_path / "here")
    assert [one.stage for one in heard] == ["preparing"] * len(heard) and heard[-1].done > 1
    assert {"index.json", "inside.bin", "table.bin", "weights.int8"} == set(files_of(tmp_path / "here"))


def test_files_that_are_not_the_pinned_ones_are_not_prepared(tmp_path):
    make_model(tmp_path / "model")
    files = pin(tmp_path / "model")
    weights = bytearray((tmp_path / "model" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model" / "model.safetensors").write_bytes(weights)
    with pytest.raises(Refusal) as refused:
        prepare(tmp_path / "model", files, "sequence-classification", tmp_path / "made")
    assert refused.value.code == "model.file_changed" and not (tmp_path / "made").exists()


@pytest.mark.parametrize(("name", "task"), [("gpt2", "causal-lm"), ("roberta", "token-classification")])
def test_a_task_has_what_it_needs_and_a_head_only_as_far_as_the_files_have_one(name, task, tmp_path):
    folder = tmp_path / "model"
    head = "lm" if task == "causal-lm" else "classifier"
    small_models.model(name, head, 0, layers=1, vocabulary=61, positions=64).save_pretrained(folder)
    words = base_models.resolve(base_models.EMBEDDED)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / file).write_bytes((words / file).read_bytes())
    made = open_prepared(tmp_path / "made", prepare(folder, pin(folder), task, tmp_path / "made"))
    assert ("lm_head" in made.store.layers) is (task == "causal-lm")
    assert not any(name.startswith(("classifier.out_proj", "score")) for name in made.store.layers)
    index = json.loads((tmp_path / "made" / "index.json").read_bytes())
    assert index["table"] == "float32" and len(made.hashes) == 32 * 61


@pytest.mark.long
def test_minilm_comes_to_the_hash_that_every_machine_comes_to(threads, tmp_path):
    folder = base_models.resolve(base_models.EMBEDDED)
    for count in (1, 2):
        threads(count)
        assert prepare(folder, pin(folder), "sequence-classification", tmp_path / str(count)) == MINILM
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
