"""Cutting a model: frozen linears out, everything else in.

`cut` is the one way to a model whose frozen layers run on an accelerator. It puts outsourced linears in the
place of frozen ones, an empty place for the embedding table, the adapter on top, and then looks at every
module of the result: what the architecture table does not list, and what would keep a frozen matrix inside or
a tuned tensor outside, is refused, whoever put it there. `open_cut` cuts a pinned base model that was never
there as a whole: its frozen linears go from the checkpoint to the store some rows at a time, and the token
embeddings stay in the host's file. Runs inside the enclave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from contracts.architecture.family import Architecture
from contracts.manifest import Lora, ModelSpec, Prefix
from contracts.refusal import Refusal
from enclave.masking.engine import QuantisedEngine
from enclave.masking.layers import Store
from enclave.slicing.adapters import adapt, head_modules
from enclave.slicing.architectures import architecture_of, permits
from enclave.slicing.embeddings import GivenVectors
from enclave.slicing.outsourced import OutsourcedLinear, SharedInputGroup
from enclave.slicing.skeleton import Base
from enclave.slicing.trimming import give_back

if TYPE_CHECKING:
    from enclave.slicing.split import Tail
    from enclave.slicing.vectors import Vectors

Read = Callable[[str], Iterable[Tensor]]
"""A parameter's name in the model -> its values, some rows at a time."""


@dataclass(frozen=True)
class Cut:
    """A cut model with its adapter. Call it, once an engine is attached, as any model:
    `model(input_ids=…, attention_mask=…)`; each call is a step of the engine. Behind a public front `model`
    is a tail of the layers from number `first` on, called with features of `width` numbers a token."""

    model: nn.Module
    groups: tuple[SharedInputGroup, ...]
    store: Store
    first: int = 0
    width: int = 0

    def blank(self, rows: int, tokens: int) -> dict[str, Tensor]:
        """Inputs that say nothing.

        Returns: what the model is called with: (batch, tokens) int64, or (batch, tokens, d_model) float32.
        """
        mask = torch.ones(rows, tokens, dtype=torch.long)
        if self.first:
            return {"features": torch.zeros(rows, tokens, self.width), "attention_mask": mask}
        return {"input_ids": torch.zeros_like(mask), "attention_mask": mask}

    def attach(self, engine: QuantisedEngine) -> None:
        """Let `engine` multiply from now on."""
        for group in self.groups:
            group.attach(engine)

    def enter_step(self) -> None:
        """Begin a step: done by itself before each forward pass."""
        for group in self.groups:
            group.forget()
        self.groups[0].engine.enter_step()


@dataclass(frozen=True)
class Opened:
    """A cut base model with its adapter, and the base that it was taken from."""

    cut: Cut
    base: Base

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.base.tokenizer


def open_cut(
    folder: Path, spec: ModelSpec, adapter: Lora | Prefix, seed: int, store_folder: Path, first: int = 0
) -> Opened:
    """Build and cut the base model in `folder` that `spec` pins, or what of it stands behind a public front
    of `first` layers; write its int8 weights to `store_folder`.

    Raises: `model.*`, `slicing.*`, `masking.*`, `adapter.*`, `split.*` or `front.no_layer`.
    """
    base = Base(folder, spec)
    skeleton = base.skeleton()
    model, tables = skeleton.model, base.architecture.tables
    tail = None
    if first:
        from contracts.architecture.front import require_layer
        from enclave.slicing.split import Tail

        require_layer(model.config.num_hidden_layers, first)
        tail = Tail(model, first)
    if isinstance(adapter, Prefix):
        from enclave.slicing.prefix import usable_tokens

        usable_tokens(model, adapter, spec.max_tokens)
    head = tuple(f"{root}." for root in head_modules(model))

    def stays(name: str, parameter: nn.Parameter) -> bool:
        return parameter.dim() < 2 or name.split(".")[-2] in tables or name.startswith(head)

    skeleton.fill(model, stays)
    vectors = None if first else skeleton.vectors()
    store = Store(store_folder)
    made = cut(model, adapter, seed, store, skeleton.pieces, vectors, tail)
    return Opened(made, base)


def cut(
    model: PreTrainedModel,
    adapter: Lora | Prefix,
    seed: int,
    store: Store,
    read: Read,
    vectors: Vectors | None,
    tail: Tail | None = None,
) -> Cut:
    """Cut `model` in place and put `adapter` on it; int8 weights go to `store`.

    `read` and `vectors` give the weights and the embedding vectors. `tail` is the one of which `model` is
    what was left: it takes features, and no vectors. The adapter's initial values are those of
    `adapters.adapt` for the same seed.

    Raises: `slicing.*`, `masking.*` or `adapter.*`.
    """
    architecture = architecture_of(model)
    _inspect_classes(model, architecture, frozen=(nn.Linear, Conv1D, nn.Embedding))
    groups = tuple(_outsource(model, architecture, store, read))
    if vectors is not None:
        table = token_table(model, architecture)
        _place_table(model, architecture, GivenVectors(vectors, float(getattr(table, "embed_scale", 1.0))))
    model.config.tie_word_embeddings = False  # a head that shared the table is a layer of its own now
    if isinstance(adapter, Prefix):
        from enclave.slicing.prefix import tune_prefix

        tuned: nn.Module = tune_prefix(model, adapter, seed)
    else:
        tuned = adapt(model, adapter, seed, 0 if tail is None else tail.k)
    store.finish()
    inspect_cut(tuned, architecture)
    result = Cut(tuned, groups, store)
    if tail is not None:
        result = Cut(tail, groups, store, tail.k, model.config.hidden_size)
    result.model.register_forward_pre_hook(lambda *_: result.enter_step())
    return result


def inspect_cut(model: nn.Module, architecture: Architecture) -> None:
    """Refuse (`slicing.unlisted_module`, `slicing.frozen_inside`, `slicing.trained_outside`) a cut model that
    holds anything that the table does not list.

    Raises: `slicing.frozen_inside` or `slicing.trained_outside`.
    """
    _inspect_classes(model, architecture, frozen=(nn.Linear, nn.Embedding))
    outside = {id(module.weight) for module in model.modules() if isinstance(module, OutsourcedLinear)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if parameter.is_meta or id(parameter) in outside:
                raise Refusal("slicing.trained_outside", name=name)
        elif id(parameter) not in outside:
            table = name.rpartition(".")[0].rpartition(".")[2]
            small = parameter.dim() < 2 or table in architecture.tables
            if parameter.is_meta or not small:
                raise Refusal("slicing.frozen_inside", name=name)


def _inspect_classes(
    model: nn.Module, architecture: Architecture, frozen: tuple[type[nn.Module], ...]
) -> None:
    """Exact classes only: a subclass may do anything. `frozen` kinds are judged by their parameters."""
    for name, module in model.named_modules():
        if type(module) not in frozen and not permits(architecture, module):
            found = f"{type(module).__module__}.{type(module).__qualname__}"
            raise Refusal("slicing.unlisted_module", module=name[:200], found=found[:200])


def _outsource(
    model: PreTrainedModel, architecture: Architecture, store: Store, read: Read
) -> Iterator[SharedInputGroup]:
    head = head_modules(model)
    for name, parent in list(model.named_modules()):
        linears = {
            key: child
            for key, child in parent.named_children()
            if type(child) in (nn.Linear, Conv1D) and not _within(_join(name, key), head)
        }
        for keys in _together(list(linears), architecture):
            members = [linears[key] for key in keys]
            paths = [_join(name, key) for key in keys]
            rows = chain(*(_weight(read, path, child) for path, child in zip(paths, members, strict=True)))
            widths = tuple(_outputs(member) for member in members)
            layer = store.add("+".join(paths), rows, sum(widths))
            group = SharedInputGroup(layer, widths)
            for member, (key, child, path) in enumerate(zip(keys, members, paths, strict=True)):
                bias = None if child.bias is None else torch.cat(tuple(read(f"{path}.bias"))).float()
                setattr(parent, key, OutsourcedLinear(group, member, bias))
            give_back()
            yield group


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _within(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}.") for root in roots)


def _together(names: list[str], architecture: Architecture) -> Iterator[tuple[str, ...]]:
    """Siblings with one input together, the others alone, in the model's order."""
    done: set[str] = set()
    for name in names:
        group = next((g for g in architecture.together if name in g and set(g) <= set(names)), (name,))
        if name not in done:
            done.update(group)
            yield group


def _weight(read: Read, path: str, module: nn.Module) -> Iterable[Tensor]:
    """(outputs, inputs), some rows at a time; a Conv1D keeps its weight the other way round."""
    pieces = read(f"{path}.weight")
    return (torch.cat(tuple(pieces)).t(),) if type(module) is Conv1D else pieces


def _outputs(module: nn.Module) -> int:
    weight = module.get_parameter("weight")
    return weight.shape[1] if type(module) is Conv1D else weight.shape[0]


def token_table(model: PreTrainedModel, architecture: Architecture) -> nn.Embedding:
    table = model.get_submodule(f"{architecture.backbone}.{architecture.token_table}")
    assert isinstance(table, nn.Embedding)
    return table


def _place_table(model: PreTrainedModel, architecture: Architecture, handed_in: GivenVectors) -> None:
    path, _, last = f"{architecture.backbone}.{architecture.token_table}".rpartition(".")
    setattr(model.get_submodule(path), last, handed_in)
