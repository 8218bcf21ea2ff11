"""Cutting a model: frozen linears out, everything else in.

`cut` is the one way to a model whose frozen layers run on an accelerator. It puts outsourced linears in the
place of frozen ones, an empty place for the embedding table, the adapter on top, and then looks at every
module of the result: what the architecture table does not list, and what would keep a frozen matrix inside or
a tuned tensor outside, is refused, whoever put it there. `open_cut` cuts a pinned base model that was never
there as a whole: its frozen linears were prepared (`slicing.prepared`), and the token embeddings stay in the
host's file. Runs inside the enclave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from contracts.architecture.family import Architecture
from contracts.architecture.rows import row_of
from contracts.manifest import Lora, Prefix
from contracts.refusal import Refusal
from enclave.masking.engine import QuantisedEngine
from enclave.masking.layers import FrozenLayer, Store
from enclave.slicing.adapters import adapt
from enclave.slicing.architectures import permits
from enclave.slicing.embeddings import GivenVectors
from enclave.slicing.hollow import HollowBase
from enclave.slicing.outsourced import OutsourcedLinear, SharedInputGroup
from enclave.slicing.prepared import PreparedModel

if TYPE_CHECKING:
    from enclave.slicing.split import Tail
    from enclave.slicing.vectors import Vectors


@dataclass(frozen=True)
class Cut:
    """A cut model with its adapter. Call it, once an engine is attached, as any model:
    `model(input_ids=…, attention_mask=…)`; each call is a step of the engine. Behind a public front `model`
    is a tail of the layers from number `first` on, called with features of `width` numbers a token."""

    model: nn.Module
    groups: tuple[SharedInputGroup, ...]
    store: Store
    first: int
    width: int

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


def open_cut(
    base: HollowBase, prepared: PreparedModel, adapter: Lora | Prefix, seed: int, first: int = 0
) -> Cut:
    """Build the base model and cut it as it was prepared, or what of it stands behind a public front of
    `first` layers.

    Raises: `slicing.*`, `masking.bad_prepared`, `adapter.*`, `split.*` or `front.no_layer`.
    """
    model, tail = base.build(), None
    if first:
        from enclave.slicing.behind import tail_behind

        tail = tail_behind(model, first)
    else:
        give_vectors(model, prepared.vectors)
    if isinstance(adapter, Prefix):
        from enclave.slicing.prefix import usable_tokens

        usable_tokens(model, adapter, base.spec.max_tokens)
    prepared.fill(model, base.architecture)
    return cut(model, adapter, seed, prepared.store, tail)


def give_vectors(model: PreTrainedModel, vectors: Callable[[Tensor], Vectors]) -> None:
    """Let embedding vectors come from outside.

    Args: `vectors` makes their source, by the table (tokens, size) float32 in whose place it stands.
    """
    architecture = row_of(model.config)
    path = f"{architecture.backbone}.{architecture.token_table}"
    table: Any = model.get_submodule(path)
    given = GivenVectors(vectors(table.weight), float(getattr(table, "embed_scale", 1.0)))
    model.set_submodule(path, given)


def cut(
    model: PreTrainedModel, adapter: Lora | Prefix, seed: int, store: Store, tail: Tail | None = None
) -> Cut:
    """Cut `model`, which was given vectors, in place, and put `adapter` on it. The `store` has the layers of
    the whole model. `tail` is the one of which `model` is what was left: it takes features, and no vectors.
    The adapter's initial values are those of `adapters.adapt` for the same seed.

    Raises: `slicing.*`, `masking.bad_prepared` or `adapter.*`.
    """
    architecture, first = row_of(model.config), 0 if tail is None else tail.k
    groups = tuple(_outsource(model, architecture, store.layers.values()))
    model.config.tie_word_embeddings = False  # a head that shared the table is a layer of its own now
    if isinstance(adapter, Prefix):
        from enclave.slicing.prefix import tune_prefix

        tuned: nn.Module = tune_prefix(model, adapter, seed)
    else:
        tuned = adapt(model, adapter, seed, first)
    inspect_cut(tuned, architecture)
    store = Store(store.folder, {group.layer.name: group.layer for group in groups})
    result = Cut(tuned if tail is None else tail, groups, store, first, model.config.hidden_size)
    result.model.register_forward_pre_hook(lambda *_: result.enter_step())
    return result


def inspect_cut(model: nn.Module, architecture: Architecture) -> None:
    """Refuse a cut model that holds anything that the table does not list. Exact classes only: a subclass may
    do anything. Linears and tables are judged by their parameters.

    Raises: `slicing.unlisted_module`, `slicing.frozen_inside` or `slicing.trained_outside`.
    """
    for name, module in model.named_modules():
        if type(module) not in (nn.Linear, nn.Embedding) and not permits(architecture, module):
            found = f"{type(module).__module__}.{type(module).__qualname__}"
            raise Refusal("slicing.unlisted_module", module=name[:200], found=found[:200])
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


def _outsource(
    model: PreTrainedModel, architecture: Architecture, layers: Iterable[FrozenLayer]
) -> Iterator[SharedInputGroup]:
    """Put members of `layers` in the place of linears of exactly these shapes. Layers that the model does not
    have are left out: those in front of a tail. What stays in the model is judged by `inspect_cut`.

    Raises: `masking.bad_prepared` for linears that do not share an input by the table, and other shapes.
    """
    modules = dict(model.named_modules())
    for layer in layers:
        paths = layer.name.split("+")
        members = [modules.pop(path) for path in paths if path in modules]
        if not members:
            continue
        parents, names = zip(*((path.rpartition(".")[::2]) for path in paths), strict=True)
        shapes = [_shape(member) for member in members]
        right = all(inputs == layer.inputs for _, inputs in shapes)
        widths = tuple(outputs for outputs, _ in shapes)
        together = len(names) == 1 or (len(set(parents)) == 1 and names in architecture.together)
        if not right or not together or sum(widths) != layer.outputs or len(members) != len(paths):
            raise Refusal("masking.bad_prepared", fault=f"the layer {layer.name[:200]}")
        group = SharedInputGroup(layer, widths)
        for number, member in enumerate(members):
            model.set_submodule(paths[number], OutsourcedLinear(group, number, member.bias))
        yield group


def _shape(module: nn.Module) -> tuple[int, int]:
    """(outputs, inputs) of a linear, of exactly its class; (0, 0) of what is none. A Conv1D keeps its weight
    the other way round."""
    if type(module) not in (nn.Linear, Conv1D):
        return 0, 0
    outputs, inputs = module.get_parameter("weight").shape
    return (inputs, outputs) if type(module) is Conv1D else (outputs, inputs)
