"""Halves that are built with what they keep: the same to the bit as those of the whole model, and the files
are believed no more than there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from contracts.manifest import ModelSpec, Spf, Training
from contracts.refusal import Refusal
from enclave.slicing import models
from enclave.slicing.adapters import tuned_state
from enclave.slicing.halves import open_front, open_tail
from enclave.slicing.kept import KeptLinear
from enclave.slicing.spf import tune
from enclave.slicing.split import Front, Tail, feature_bound_of
from enclave.training.data import Examples
from enclave.training.features import FeatureSet, layout_of
from enclave.training.loop import train
from enclave_host import base_models
from enclave_host.pinning import pin
from site_agent.methods.shard_making import compute
from tests.slicing.small import LABELS, MODELS, model, texts

CLASSES = tuple(f"class {number}" for number in range(LABELS))
SPF = Spf(50.0, 25.0, lora=("attention_output",), rank=2, alpha=4)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


def saved(folder: Path, name: str, head: str, dtype: torch.dtype = torch.float32) -> ModelSpec:
    """A small model in `folder`, with a tokenizer that nobody asks, pinned."""
    model(name, head).to(dtype).save_pretrained(folder)
    words = base_models.resolve(base_models.EMBEDDED)
    for file in TOKENIZER:
        if (words / file).is_file():
            (folder / file).write_bytes((words / file).read_bytes())
    return pinned(folder, head)


def pinned(folder: Path, head: str) -> ModelSpec:
    task: Any = "causal-lm" if head == "lm" else "sequence-classification"
    return ModelSpec("local", task, pin(folder), () if head == "lm" else CLASSES, max_tokens=32)


def examples(head: str) -> Examples:
    ids, mask = texts()
    tokens = [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]
    return Examples(tokens, tokens if head == "lm" else [0, 1, 2, 1], 0)


def learnt(tail: Tail, front: Front, spec: ModelSpec, head: str) -> Any:
    """Loss and tuned parameters after two epochs on a front's features."""
    tune(tail, SPF, seed=3)
    layout = layout_of(spec, front.config, 1, "0" * 64)
    material = FeatureSet([compute(front, examples(head), range(4), 2)], layout)
    training = Training(rounds=1, local_epochs=2, batch_size=2, learning_rate=1e-2, seed=3)
    return train(tail, material, training, round=1, site="anna").loss, tuned_state(tail)


@pytest.mark.parametrize(("name", "head"), MODELS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=("fp32", "bf16"))
def test_halves_compute_and_learn_what_those_of_the_whole_model_do_bit_for_bit(name, head, dtype, tmp_path):
    """Also where the checkpoint's bf16 matrices are kept as they are, at half the memory."""
    spec = saved(tmp_path, name, head, dtype)
    front, tail = (half(models.load(tmp_path, spec)[0], 1) for half in (Front, Tail))
    opened_front, tokenizer = open_front(tmp_path, spec, 1)
    opened = open_tail(tmp_path, spec, 1)
    assert tokenizer("a fever")["input_ids"]
    assert torch.equal(opened_front(*texts()), front(*texts()))
    assert opened.feature_bound == feature_bound_of(front)
    assert opened.config.num_hidden_layers == 3 and opened.tail.config.num_hidden_layers == 2
    kept = [module for half in (opened_front, opened.tail) for module in half.modules()
            if isinstance(module, KeptLinear)]  # fmt: skip
    assert bool(kept) is (dtype is torch.bfloat16 and (name, head) != ("gpt2", "classifier"))
    assert all(module.weight.dtype is dtype for module in kept)
    before, after = learnt(tail, front, spec, head), learnt(opened.tail, opened_front, spec, head)
    assert before[0] == after[0] and before[1].keys() == after[1].keys()
    assert all((before[1][key] == after[1][key]).all() for key in before[1])


@pytest.mark.parametrize("name", ["bert", "qwen3"])
def test_a_streamed_front_holds_no_layer_and_computes_the_same(name, tmp_path):
    spec = saved(tmp_path, name, "classifier")
    whole, _ = open_front(tmp_path, spec, 2)
    streamed, _ = open_front(tmp_path, spec, 2, room=0)
    for _ in range(2):
        assert all(parameter.is_meta for layer in streamed.layers() for parameter in layer.parameters())
        assert torch.equal(streamed(*texts()), whole(*texts()))


def test_a_pooler_that_a_checkpoint_lacks_is_drawn_as_the_whole_model_draws_it(tmp_path):
    saved(tmp_path, "bert", "classifier")
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    kept = {key: value for key, value in tensors.items() if "pooler" not in key and "classifier" not in key}
    assert len(kept) == len(tensors) - 4
    save_file(kept, file, {"format": "pt"})
    spec = pinned(tmp_path, "classifier")
    whole, opened = models.load(tmp_path, spec)[0], open_tail(tmp_path, spec, 1).tail.model
    for key in ("bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight"):
        assert torch.equal(whole.get_parameter(key), opened.get_parameter(key))
    assert whole.get_parameter("bert.pooler.dense.weight").std() > 0


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.code


def test_no_byte_is_used_that_was_not_pinned(tmp_path):
    """The host swaps a layer's bytes after the pass that checked the file's pin: it is noticed where they
    are used, by a front that is streamed as well."""
    spec = saved(tmp_path, "llama", "lm")
    front, _ = open_front(tmp_path, spec, 2, room=0)
    file = tmp_path / "model.safetensors"
    good = file.read_bytes()
    changed = bytearray(good)
    place = good.index(load_file(file)["model.layers.1.mlp.up_proj.weight"].numpy().tobytes())
    changed[place] ^= 1
    file.write_bytes(changed)
    assert refused(front, *texts()) == "slicing.tensor_changed"
    assert refused(open_front, tmp_path, spec, 1) == "model.file_changed"
    assert refused(open_tail, tmp_path, spec, 1) == "model.file_changed"
    unpinned = msgspec.structs.replace(spec, files={"config.json": spec.files["config.json"]})
    assert refused(open_tail, tmp_path, unpinned, 1) == "model.no_weights"
    file.write_bytes(good)
    assert front(*texts()).isfinite().all()


def test_a_layer_that_a_checkpoint_lacks_is_refused(tmp_path):
    saved(tmp_path, "llama", "lm")
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, file, {"format": "pt"})
    spec = pinned(tmp_path, "lm")
    assert refused(open_tail, tmp_path, spec, 1) == "slicing.missing_tensor"
    assert open_front(tmp_path, spec, 2)[0](*texts()).isfinite().all()


def test_halves_that_are_built_at_the_same_time_leave_torch_as_it_was(tmp_path: Path) -> None:
    """What parameters are made without storage by is torch's own class: two threads must not put back each
    other's change."""
    register = nn.Module.register_parameter
    spec = saved(tmp_path, "bert", "class")
    with ThreadPoolExecutor(4) as threads:
        fronts = [threads.submit(open_front, tmp_path, spec, 1) for _ in range(12)]
        wholes = [threads.submit(models.load, tmp_path, spec) for _ in range(4)]
        assert not any(p.is_meta for whole in wholes for p in whole.result()[0].parameters())
        assert not any(p.is_meta for front in fronts for p in front.result()[0].parameters())
    assert nn.Module.register_parameter is register
