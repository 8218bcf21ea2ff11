"""The tensors of a checkpoint: finite, one and all, and exactly those that the model is built from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from enclave.slicing.adapters import head_modules
from enclave.slicing.base_files import configure, refusing_what_transformers_cannot_read
from enclave.slicing.models import built_in_memory
from enclave_host.proving.files import Tensor

FLOATS = ("F64", "F32", "F16", "BF16")
BLOCK = 1 << 22
"""Numbers that are looked at in one go: bounds the memory, whatever the size of a tensor."""
OTHER_HEADS = ("cls.", "lm_head.", "classifier.", "score.", "qa_outputs.", "pre_classifier.", "vocab_",
               "generator_", "discriminator_", "sop_classifier.", "summary.", "pooler.")  # fmt: skip
"""Heads of other tasks, that checkpoints of pretraining bring along; anything else that is left over is
refused."""

Progress = Callable[[int, int], None]


def require_finite(folder: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    """Look at every number of every tensor, a block at a time.

    Raises: `model.not_finite`, `model.tensor_type` or `model.not_safetensors`.
    """
    total = sum(tensor.size for tensor in tensors.values()) or 1
    done = 0
    for file in sorted({tensor.file for tensor in tensors.values()}):
        with _opened(folder / file) as opened:
            for name in sorted(name for name, tensor in tensors.items() if tensor.file == file):
                tensor = tensors[name]
                if tensor.dtype in FLOATS:
                    bad = sum(int((~block.isfinite()).sum()) for block in _blocks(opened, name, tensor))
                    if bad:
                        raise Refusal("model.not_finite", tensor=name[:200], file=file, count=bad)
                elif not name.endswith(("position_ids", "token_type_ids", ".attn.bias", ".masked_bias")):
                    raise Refusal("model.tensor_type", tensor=name[:200], file=file, found=tensor.dtype)
                done += tensor.size
                progress(done, total)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Its header says where each tensor lies, without gaps or overlaps.

    Raises: `model.not_safetensors`.
    """
    try:
        opened = safe_open(file, framework="pt")
    except SafetensorError as error:
        raise Refusal("model.not_safetensors", file=file.name, fault=str(error)[:200]) from error
    with opened:
        yield opened


def _blocks(opened: Any, name: str, tensor: Tensor) -> Iterable[torch.Tensor]:
    if len(tensor.shape) < 2 or tensor.numbers <= BLOCK:
        yield opened.get_tensor(name)
        return
    part = opened.get_slice(name)
    rows = max(1, BLOCK // max(1, tensor.numbers // tensor.shape[0]))
    for start in range(0, tensor.shape[0], rows):
        yield part[start : min(start + rows, tensor.shape[0])]


def build(folder: Path, spec: ModelSpec) -> tuple[PreTrainedModel, tuple[str, ...], tuple[str, ...]]:
    """The model, the tensors that are new (its head), and those of the files that it does not use.

    Raises: `model.missing_tensors`, `model.unexpected_tensors`, `model.prefixed_tensors`,
    `model.tensor_shape` or `model.unreadable`.
    """
    with refusing_what_transformers_cannot_read(folder, spec):
        config, _tokenizer, automatic = configure(folder, spec)
        with built_in_memory(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, loading = automatic.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                attn_implementation="eager",
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                output_loading_info=True,
            )
    head = tuple(f"{name}." for name in head_modules(model))
    _require_shapes(loading["mismatched_keys"], head)
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith(head))
    unexpected = sorted(name for name in loading["unexpected_keys"] if not _of_another_head(name, model))
    if missing:
        _say_prefix(missing, unexpected)
        count = len(dict(model.named_parameters()))
        raise Refusal("model.missing_tensors", missing=len(missing), count=count, first=missing[0][:200])
    if unexpected:
        raise Refusal("model.unexpected_tensors", unexpected=len(unexpected), first=unexpected[0][:200])
    new = set(loading["missing_keys"]) | {_name_of(one) for one in loading["mismatched_keys"]}
    return model.eval(), tuple(sorted(new)), tuple(sorted(loading["unexpected_keys"]))


def _name_of(mismatched: Any) -> str:
    return str(mismatched[0] if isinstance(mismatched, tuple) else mismatched)


def _require_shapes(mismatched: Iterable[Any], head: tuple[str, ...]) -> None:
    for one in sorted(mismatched, key=_name_of):
        name = _name_of(one)
        if head and name.startswith(head):
            continue  # a head for other labels: it is drawn again
        found, expected = (str(tuple(shape)) for shape in one[1:3])
        raise Refusal("model.tensor_shape", tensor=name[:200], found=found, expected=expected)


def _of_another_head(name: str, model: PreTrainedModel) -> bool:
    known = {buffer for buffer, _ in model.named_buffers()}
    base = model.base_model_prefix
    return name.removeprefix(f"{base}.").startswith(OTHER_HEADS) or bool({name, f"{base}.{name}"} & known)


def _say_prefix(missing: list[str], unexpected: list[str]) -> None:
    """Raises: `model.prefixed_tensors` where a word in front of all names is the only fault."""
    prefix = unexpected[0].partition(".")[0] + "." if unexpected else ""
    if prefix and all(name.startswith(prefix) for name in unexpected):
        bare = {name.removeprefix(prefix) for name in unexpected}
        wanted = {name.partition(".")[2] for name in missing} | set(missing)
        if bare & wanted:
            raise Refusal("model.prefixed_tensors", prefix=prefix[:100], first=unexpected[0][:200])
