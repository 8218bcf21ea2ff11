"""Method 2's halves of a pinned base model, built with what they keep and nothing else.

`open_front(folder, spec, k)` is what a site runs; `open_tail(folder, spec, k)` what the server's TEE trains.
Neither ever holds the whole model: they are taken from a model without storage (`skeleton`), and filled from
the checkpoint. A front that would not fit is *streamed*: each layer is read when its turn comes, and dropped
again. That changes no bit, costs a reading of the front for each batch, and is how the tail's side learns how
far the front's features reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from contracts.manifest import ModelSpec
from enclave.slicing.embeddings import GivenVectors
from enclave.slicing.kept import bytes_of, fill_kept
from enclave.slicing.scanned import ScannedVectors
from enclave.slicing.skeleton import Base, Skeleton
from enclave.slicing.split import Front, Tail, feature_bound_of

if TYPE_CHECKING:
    from enclave.slicing.vectors import Vectors


@dataclass(frozen=True)
class OpenedTail:
    """A tail with the configuration of the whole model, and how large the front's features can be."""

    tail: Tail
    config: PretrainedConfig
    feature_bound: float


def open_front(
    folder: Path, spec: ModelSpec, k: int, *, room: int | None = None, device: str = "cpu"
) -> tuple[Front, PreTrainedTokenizerBase]:
    """The front of the base model in `folder` that `spec` pins, on `device`, and the tokenizer. Where its
    layers take more than `room` bytes, they are streamed, on the CPU.

    Runs at the site.

    Raises: `model.*`, `slicing.*` or `split.bad_cut`.
    """
    base = Base(folder, spec)
    front, skeleton = _front(base, k)
    if room is not None and bytes_of(skeleton, front) > room:
        _stream(front, skeleton)
        return front, base.tokenizer
    fill_kept(skeleton, front)
    return front.to(device), base.tokenizer


def open_tail(folder: Path, spec: ModelSpec, k: int) -> OpenedTail:
    """The tail of the base model in `folder` that `spec` pins, in evaluation mode. Runs inside the enclave.

    Raises: `model.*`, `slicing.*` or `split.*`.
    """
    base = Base(folder, spec)
    return OpenedTail(tail_of(base, k), base.config, feature_bound_of(streamed_front(base, k)))


def tail_of(base: Base, k: int) -> Tail:
    """The base model's tail, in evaluation mode.

    Raises: `slicing.*` or `split.*`.
    """
    skeleton = base.skeleton()
    tail = Tail(skeleton.model, k)
    fill_kept(skeleton, tail)
    return tail


def streamed_front(base: Base, k: int) -> Front:
    """The base model's front, each layer of which is read when its turn comes. Its table of tokens is read
    as a whole for each batch: who watches the reads learns nothing of the texts.

    Raises: `slicing.*` or `split.*`.
    """
    front, skeleton = _front(base, k, scanned=True)
    _stream(front, skeleton)
    return front


def _front(base: Base, k: int, *, scanned: bool = False) -> tuple[Front, Skeleton]:
    """A front without storage, whose table of tokens stays in the file, to be read as a whole or by rows."""
    skeleton = base.skeleton()
    front = Front(skeleton.model, k)
    vectors: Vectors = skeleton.vectors()
    if scanned:
        vectors = ScannedVectors(lambda: skeleton.pieces(skeleton.table), base.config.hidden_size)
    path, _, last = base.architecture.token_table.rpartition(".")
    parent = front.backbone.get_submodule(path)
    scale = float(getattr(getattr(parent, last), "embed_scale", 1.0))
    setattr(parent, last, GivenVectors(vectors, scale))
    return front, skeleton


def _stream(front: Front, skeleton: Skeleton) -> None:
    """Fill what lies beside the layers now, and each layer for as long as it runs."""
    layers = front.layers()
    inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
    skeleton.fill(front, lambda _name, parameter: id(parameter) not in inside)
    for layer in layers:
        layer.register_forward_pre_hook(lambda layer, _inputs: skeleton.fill(layer))
        layer.register_forward_hook(_emptying(layer))


def _emptying(layer: nn.Module) -> Callable[..., None]:
    """A hook that takes a layer's storage away again."""
    bare = [(owner, dict(owner.named_parameters(recurse=False))) for owner in layer.modules()]

    def empty(*_: Any) -> None:
        for owner, parameters in bare:
            for name, parameter in parameters.items():
                setattr(owner, name, parameter)

    return empty
