"""A pinned base model without its weights that knows where they lie: what a front is taken from, and a tail.

Whoever takes a part of it fills what it keeps (`Skeleton.fill`), one parameter at a time from the checkpoint,
whose pieces were pinned in one pass; so no more memory is used than what is kept. Runs inside the enclave, at
the site for the public front, and where a model is prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from enclave.slicing.adapters import head_modules
from enclave.slicing.checkpoint import ModelCheckpoint
from enclave.slicing.embeddings import FileVectors
from enclave.slicing.hollow import HollowBase, draw_lacking, put_value


class Base(HollowBase):
    """A base model's configuration and tokenizer, and where its weights lie."""

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        """Reads every pinned file in `folder` once.

        Raises: `model.*` or `slicing.unknown_architecture`.
        """
        super().__init__(folder, spec)
        table = f"{self.architecture.token_table}.weight"
        self.checkpoint = ModelCheckpoint({folder / name: spec.files[name] for name in self.weights}, table)

    def skeleton(self) -> Skeleton:
        """The model, all of whose parameters lack storage: take it apart, and build another for more."""
        return Skeleton(self, self.build())


class Skeleton:
    """A model without storage, whose parameters know where their values lie, also when it was taken apart."""

    def __init__(self, base: Base, model: PreTrainedModel) -> None:
        self.base, self.model = base, model
        self._parameters = {id(parameter): (name, parameter) for name, parameter in model.named_parameters()}
        self.head = tuple(f"{root}." for root in head_modules(model))
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        self._places = base.checkpoint.match(names, base.architecture.backbone)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The values of a parameter of the model, some rows at a time.

        Returns: (rows, …) at a time, in the checkpoint's dtype.

        Raises: `slicing.missing_tensor` or `slicing.tensor_changed`.
        """
        return self.base.checkpoint.pieces(self.place_of(name))

    def vectors(self) -> FileVectors:
        """The rows of the table of token embeddings, which stays where it is.

        Raises: `slicing.missing_tensor`.
        """
        name = self.place_of(self.table)
        place = self.base.checkpoint.places[name]
        if len(place.shape) != 2:
            raise Refusal("slicing.missing_tensor", name=name[:200])
        return FileVectors(place.file, place.offset, place.shape, place.dtype, place.hashes)

    def fill(
        self,
        part: nn.Module,
        wanted: Callable[[str, nn.Parameter], bool] = lambda *_: True,
        kept_type: Callable[[nn.Module, str, str], torch.dtype] | None = None,
    ) -> None:
        """Give storage and float32 values to what lacks them in `part` of the model, or to those of it that
        are `wanted`, by name in the model; or values of the `kept_type` of a parameter's module, its name
        there, and its name in the model (`slicing.kept`). A head that the checkpoint lacks is drawn from a
        fixed seed, as `models.load` draws it.

        Raises: `slicing.missing_tensor` or `slicing.tensor_changed`.
        """
        lacking = False
        for owner in list(part.modules()):
            for key, parameter in list(owner.named_parameters(recurse=False)):
                name = self.name_of(parameter)
                if not name or not parameter.is_meta or not wanted(name, parameter):
                    continue
                there = self._holds(name, tuple(parameter.shape))
                dtype = kept_type(owner, key, name) if kept_type and there else torch.float32
                value = self.base.checkpoint.read(self.place_of(name), dtype) if there else None
                put_value(owner, key, value)
                lacking |= not there
        if lacking:
            draw_lacking(self.model)

    def name_of(self, parameter: nn.Parameter) -> str:
        """What it is called in the model; empty for what is not the model's."""
        return self._parameters.get(id(parameter), ("", parameter))[0]

    def has(self, name: str) -> bool:
        """Whether the checkpoint has a parameter of its own for one of the model."""
        return name in self._places

    def _holds(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether the checkpoint has a parameter in this shape; what is no part of a head it must have."""
        in_head = name.startswith(self.head)
        if in_head and name not in self._places:
            return False
        there = self.base.checkpoint.places[self.place_of(name)].shape == shape
        if not there and not in_head:
            raise Refusal("slicing.missing_tensor", name=name[:200])
        return there

    @property
    def table(self) -> str:
        """The parameter that holds the token embeddings."""
        return f"{self.base.architecture.backbone}.{self.base.architecture.token_table}.weight"

    def place_of(self, name: str) -> str:
        """Where a parameter lies in the checkpoint: an output layer that it lacks may share the table.

        Raises: `slicing.missing_tensor`.
        """
        if name not in self._places and self.base.config.tie_word_embeddings:
            name = self.table if name.startswith("lm_head.") else name
        if name not in self._places:
            raise Refusal("slicing.missing_tensor", name=name[:200])
        return self._places[name]
