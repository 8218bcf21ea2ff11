"""A pinned base model without its frozen matrices: what the enclave builds before it cuts.

Same pins, same configuration, same tokenizer and same classes as `slicing.models.load`, but parameters are
made without storage, and only those that stay inside (norms, biases, small tables, a head) are filled, one by
one, from the checkpoint. The frozen linears go from the checkpoint to the store one at a time, inside
`slicing.cut`; the token embeddings stay in the host's file, each row of them pinned. Runs inside the enclave.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from contracts.architecture.layers import row_of
from contracts.architecture.table import Architecture
from contracts.manifest import Lora, ModelSpec, Prefix
from contracts.model_files import CONFIG
from contracts.refusal import Refusal
from enclave.masking.layers import Store
from enclave.slicing import models
from enclave.slicing.adapters import head_modules
from enclave.slicing.architectures import architecture_of
from enclave.slicing.checkpoint import Checkpoint
from enclave.slicing.cut import Cut, cut
from enclave.slicing.embeddings import FileVectors


@dataclass(frozen=True)
class Opened:
    """A cut base model with its adapter, and its tokenizer."""

    cut: Cut
    tokenizer: PreTrainedTokenizerBase


def open_cut(folder: Path, spec: ModelSpec, adapter: Lora | Prefix, seed: int, store_folder: Path) -> Opened:
    """Build and cut the base model in `folder` that `spec` pins; write its int8 weights to `store_folder`.

    Refuses with `model.*`, `slicing.*`, `masking.*` or `adapter.*`.
    """
    with tempfile.TemporaryDirectory(prefix="fedslice-model-") as private:
        copy = Path(private)
        weights = _copy_all_but_weights(folder, copy, spec)
        with models.refusing_what_transformers_cannot_read(copy, spec):
            config, tokenizer, automatic = models.configure(copy, spec)
            kind: Any = automatic._model_mapping[type(config)]
            config.dtype = torch.float32
            config._attn_implementation = "eager"
    table = f"{row_of(config).token_table}.weight"
    checkpoint = Checkpoint({folder / name: spec.files[name] for name in weights}, table)
    with parameters_without_storage(), no_init_weights():
        model: PreTrainedModel = kind(config)
    if isinstance(adapter, Prefix):
        from enclave.slicing.prefix import usable_tokens

        usable_tokens(model, adapter, spec.max_tokens)
    architecture = architecture_of(model)
    names = checkpoint.match(_names(model), architecture.backbone)
    _fill(model.eval(), architecture, checkpoint, names)

    def read(name: str) -> Tensor:
        tied = name if name in names else f"{architecture.backbone}.{architecture.token_table}.weight"
        if tied not in names or (tied != name and not config.tie_word_embeddings):
            raise Refusal("slicing.missing_tensor", name=name[:200])
        return checkpoint.read(names[tied])

    vectors = _vectors(architecture, checkpoint, names)
    return Opened(cut(model, adapter, seed, Store(store_folder), read=read, vectors=vectors), tokenizer)


@contextmanager
def parameters_without_storage() -> Iterator[None]:
    """Within, every parameter that a module registers gets the meta device; buffers stay real."""
    register = nn.Module.register_parameter

    def without_storage(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = without_storage  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _copy_all_but_weights(folder: Path, copy: Path, spec: ModelSpec) -> list[str]:
    """Copy and check the pinned files but the weights, whose names are returned."""
    weights = []
    for name, pin in sorted(spec.files.items()):
        models._check_name(name)
        if name.endswith(".safetensors"):
            weights.append(name)
        elif models._copy(folder / name, copy / name) != pin:
            raise Refusal("model.file_changed", file=name)
    if CONFIG not in spec.files:
        raise Refusal("model.file_missing", file=CONFIG)
    if not weights:
        raise Refusal("model.no_weights")
    models._refuse_remote_code(copy)
    return weights


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters(remove_duplicate=False)]


def _fill(
    model: PreTrainedModel, architecture: Architecture, checkpoint: Checkpoint, names: dict[str, str]
) -> None:
    """Give storage to what stays inside. A head that the checkpoint lacks starts from a fixed seed."""
    head = head_modules(model)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in list(model.named_parameters()):
        path, _, last = name.rpartition(".")
        in_head = name.startswith(tuple(f"{root}." for root in head))
        small = parameter.dim() < 2 or path.rpartition(".")[2] in architecture.tables
        if not (in_head or small):
            continue
        if name in names and checkpoint.places[names[name]].shape == tuple(parameter.shape):
            value = checkpoint.read(names[name])
        elif in_head:
            deviation = getattr(model.config, "initializer_range", 0.02) if parameter.dim() > 1 else 0.0
            value = torch.zeros(parameter.shape).normal_(0.0, deviation, generator=generator)
        else:
            raise Refusal("slicing.missing_tensor", name=name[:200])
        setattr(model.get_submodule(path), last, nn.Parameter(value))


def _vectors(architecture: Architecture, checkpoint: Checkpoint, names: dict[str, str]) -> FileVectors:
    name = f"{architecture.backbone}.{architecture.token_table}.weight"
    if name not in names or len(checkpoint.places[names[name]].shape) != 2:
        raise Refusal("slicing.missing_tensor", name=name)
    return FileVectors(checkpoint.places[names[name]])
