"""Preparing a base model: the work itself, a layer at a time.

Deterministic over machines: files are pinned, layers and values stand in the order of the model's own code,
weights are rounded as `quantising` says, and the index is the JSON of one type. No enclave loads this.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from contracts.architecture.family import Architecture
from contracts.architecture.rows import row_of
from contracts.kinds import Task
from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from enclave.masking.layers import INDEX
from enclave.slicing.adapters import head_modules
from enclave.slicing.prepared import INSIDE, TABLE, PreparedIndex
from enclave.slicing.skeleton import Base, Skeleton
from enclave_host.child_calls import ChildProgress, Tell
from enclave_host.preparing.store_writer import StoreWriter

ANY_LABELS = {"sequence-classification": ("a", "b"), "token-classification": ("O", "B-a", "I-a")}
"""How many labels there are changes nothing that is prepared, but the model is built with some."""


def prepare(
    folder: Path,
    files: Mapping[str, str],
    task: Task,
    into: Path | None,
    tell: Tell = lambda _progress: None,
) -> str:
    """Prepare the base model in `folder`, whose `files` have these SHA-256; without `into`, for the hash.

    Returns: the SHA-256 of the index.

    Raises: `model.*`, `slicing.*` or `masking.bad_weight`.
    """
    tell(ChildProgress("preparing", 0, 1))
    spec = ModelSpec("prepared", task, dict(files), ANY_LABELS.get(task, ()), 8)
    skeleton = Base(folder, spec).skeleton()
    writer = StoreWriter(into)
    layers = list(shared_inputs(skeleton.model))
    for done, layer in enumerate(layers):
        tell(ChildProgress("preparing", done, len(layers)))
        add_layer(writer, layer, skeleton.pieces)
    values = writer.scales | dict(_kept(skeleton, row_of(skeleton.model.config)))
    kind, hashes = _write_table(skeleton, into)
    inside = hashlib.sha256()
    with _opened(into, INSIDE) as file:
        for piece in chain((value.numpy().tobytes() for value in values.values()), (hashes,)):
            inside.update(piece)
            file.write(piece)
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    index = msgspec.json.encode(PreparedIndex(tuple(writer.layers), shapes, inside.hexdigest(), kind))
    with _opened(into, INDEX) as file:
        file.write(index)
    return hashlib.sha256(index).hexdigest()


def shared_inputs(model: nn.Module) -> Iterator[dict[str, nn.Module]]:
    """The linears that go out, by their places in the model, in its order: those with one input together."""
    config: Any = model.config
    architecture, head = row_of(config), head_modules(model)  # type: ignore[arg-type]
    for path, parent in list(model.named_modules()):
        linears = {
            name: child
            for name, child in parent.named_children()
            if type(child) in (nn.Linear, Conv1D) and not _within(_join(path, name), head)
        }
        for names in _together(list(linears), architecture):
            yield {_join(path, name): linears[name] for name in names}


def add_layer(
    writer: StoreWriter, layer: Mapping[str, nn.Module], read: Callable[[str], Iterable[Tensor]]
) -> None:
    """Write out one layer. `read` gives a parameter of the model, some rows at a time.

    Raises: `masking.bad_weight`.
    """
    rows = chain(*(_weight(read(f"{path}.weight"), module) for path, module in layer.items()))
    writer.add("+".join(layer), rows, sum(map(_outputs, layer.values())))


def _kept(skeleton: Skeleton, architecture: Architecture) -> Iterator[tuple[str, Tensor]]:
    """What stays inside, float32: see `PreparedModel.fill`. Of a head, what the base model has of it."""
    for name, parameter in skeleton.model.named_parameters():
        in_head = name.startswith(skeleton.head)
        if in_head and not skeleton.has(name):
            continue
        if in_head or parameter.dim() < 2 or name.split(".")[-2] in architecture.tables:
            yield name, skeleton.base.checkpoint.read(skeleton.place_of(name))


def _write_table(skeleton: Skeleton, into: Path | None) -> tuple[Any, bytes]:
    """The type of the numbers of the table of token embeddings, and the hashes of its rows."""
    place = skeleton.base.checkpoint.places[skeleton.place_of(skeleton.table)]
    if len(place.shape) != 2:
        raise Refusal("slicing.missing_tensor", name=skeleton.table[:200])
    if into is not None:
        with _opened(into, TABLE) as file:
            for rows in skeleton.pieces(skeleton.table):
                file.write(rows.contiguous().view(-1).view(torch.uint8).numpy().data)
    return str(place.dtype).removeprefix("torch."), place.hashes


def _opened(into: Path | None, name: str) -> BinaryIO:
    return Path(os.devnull if into is None else into / name).open("wb")


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


def _weight(rows: Iterable[Tensor], module: nn.Module) -> Iterable[Tensor]:
    """(outputs, inputs), some rows at a time; a Conv1D keeps its weight the other way round."""
    return (torch.cat(tuple(rows)).t(),) if type(module) is Conv1D else rows


def _outputs(module: nn.Module) -> int:
    weight = module.get_parameter("weight")
    return weight.shape[1] if type(module) is Conv1D else weight.shape[0]
