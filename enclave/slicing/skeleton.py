"""A pinned base model without its weights: what an enclave or a site builds before it takes a part of it.

Same pins, same configuration, same tokenizer and same classes as `slicing.models.load`, but parameters are
made without storage. Whoever takes a part fills what it keeps (`Skeleton.fill`), one parameter at a time from
the checkpoint, whose pieces were pinned in one pass; so no more memory is used than what is kept. Runs inside
the enclave, and at the site for the public front.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from contracts.architecture.layers import row_of
from contracts.manifest import ModelSpec
from contracts.model_files import CONFIG
from contracts.refusal import Refusal
from enclave.slicing import base_files
from enclave.slicing.adapters import head_modules
from enclave.slicing.checkpoint import ModelCheckpoint
from enclave.slicing.eager import BUILDING
from enclave.slicing.embeddings import FileVectors, ScannedVectors

HALVES = (torch.bfloat16, torch.float16)
"""Types in which the matrix of a frozen linear may be kept."""


class Base:
    """A base model's configuration and tokenizer, and where its weights lie."""

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        """Reads every pinned file in `folder` once.

        Raises: `model.*` or `slicing.unknown_architecture`.
        """
        with tempfile.TemporaryDirectory(prefix="fedslice-model-") as private:
            own = Path(private)
            weights = _copy_all_but_weights(folder, own, spec)
            with base_files.refusing_what_transformers_cannot_read(own, spec):
                config, tokenizer, automatic = base_files.configure(own, spec)
                self._kind: Any = automatic._model_mapping[type(config)]
                config.dtype = torch.float32
                config._attn_implementation = "eager"
        self.config: PretrainedConfig = config
        self.tokenizer: PreTrainedTokenizerBase = tokenizer
        self.architecture = row_of(config)
        table = f"{self.architecture.token_table}.weight"
        self.checkpoint = ModelCheckpoint({folder / name: spec.files[name] for name in weights}, table)

    def skeleton(self) -> Skeleton:
        """The model, all of whose parameters lack storage: take it apart, and build another for more."""
        with BUILDING, parameters_without_storage(), no_init_weights():
            model: PreTrainedModel = self._kind(copy.deepcopy(self.config))
        return Skeleton(self, model.eval())


class Skeleton:
    """A model without storage, whose parameters know where their values lie, also when it was taken apart."""

    def __init__(self, base: Base, model: PreTrainedModel) -> None:
        self.base, self.model = base, model
        self._parameters = {id(parameter): (name, parameter) for name, parameter in model.named_parameters()}
        self._head = tuple(f"{root}." for root in head_modules(model))
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        self._places = base.checkpoint.match(names, base.architecture.backbone)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The values of a parameter of the model, some rows at a time.

        Returns: (rows, …) at a time, in the checkpoint's dtype.

        Raises: `slicing.missing_tensor` or `slicing.tensor_changed`.
        """
        return self.base.checkpoint.pieces(self._place(name))

    def vectors(self) -> FileVectors:
        """The rows of the table of token embeddings, which stays where it is.

        Raises: `slicing.missing_tensor`.
        """
        name = self._place(self._table)
        place = self.base.checkpoint.places[name]
        if len(place.shape) != 2:
            raise Refusal("slicing.missing_tensor", name=name[:200])
        return FileVectors(place)

    def scanned_vectors(self) -> ScannedVectors:
        """The same rows, found by reading all of the table.

        Raises: as `vectors`.
        """
        return ScannedVectors(lambda: self.pieces(self._table), self.base.config.hidden_size)

    def bytes_of(self, part: nn.Module) -> int:
        """What `fill` will take for `part` of the model, with `kept`."""
        named = ((owner, *each) for owner in part.modules() for each in owner.named_parameters(recurse=False))
        return sum(
            self._type(owner, key, self._name(parameter)).itemsize * parameter.numel()
            for owner, key, parameter in named
            if parameter.is_meta
        )

    def fill(
        self,
        part: nn.Module,
        wanted: Callable[[str, nn.Parameter], bool] = lambda *_: True,
        *,
        kept: bool = False,
    ) -> None:
        """Give storage and float32 values to what lacks them in `part` of the model, or to those of it that
        are `wanted`, by name in the model. With `kept`, linears that are no part of a head keep the shorter
        type of the checkpoint (`slicing.kept`). A head that the checkpoint lacks is drawn from a fixed
        seed, as `models.load` draws it.

        Raises: `slicing.missing_tensor` or `slicing.tensor_changed`.
        """
        lacking = False
        for owner in list(part.modules()):
            for key, parameter in list(owner.named_parameters(recurse=False)):
                name = self._name(parameter)
                if not name or not parameter.is_meta or not wanted(name, parameter):
                    continue
                there = self._holds(name, tuple(parameter.shape))
                read = self.base.checkpoint.read
                dtype = self._type(owner, key, name) if kept and there else torch.float32
                value = read(self._place(name), dtype) if there else torch.zeros(parameter.shape)
                made: Any = nn.Parameter(value, parameter.requires_grad)
                made._is_hf_initialized = there
                lacking |= not there
                setattr(owner, key, made)
        if lacking:
            for parameter in self.model.parameters():
                if parameter.is_meta:  # nothing is drawn for it: the kernels that would load sympy
                    parameter._is_hf_initialized = True  # type: ignore[attr-defined]
            with BUILDING, torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.model.initialize_weights()
        if kept:
            from enclave.slicing.kept import KeptLinear

            for parent in list(part.modules()):
                for key, child in list(parent.named_children()):
                    if type(child) is nn.Linear and child.weight.dtype in HALVES:
                        setattr(parent, key, KeptLinear(child))

    def _name(self, parameter: nn.Parameter) -> str:
        """What it is called in the model; empty for what is not the model's."""
        return self._parameters.get(id(parameter), ("", parameter))[0]

    def _type(self, owner: nn.Module, key: str, name: str) -> torch.dtype:
        """The type in which `fill` keeps a parameter: the checkpoint's own for the matrix of a frozen
        linear."""
        if type(owner) is nn.Linear and key == "weight" and not name.startswith(self._head):
            dtype = self.base.checkpoint.places[self._place(name)].dtype
            if dtype in HALVES:
                return dtype
        return torch.float32

    def _holds(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether the checkpoint has a parameter in this shape; what is no part of a head it must have."""
        in_head = name.startswith(self._head)
        if in_head and name not in self._places:
            return False
        there = self.base.checkpoint.places[self._place(name)].shape == shape
        if not there and not in_head:
            raise Refusal("slicing.missing_tensor", name=name[:200])
        return there

    @property
    def _table(self) -> str:
        return f"{self.base.architecture.backbone}.{self.base.architecture.token_table}.weight"

    def _place(self, name: str) -> str:
        """Where a parameter lies in the checkpoint: an output layer that it lacks may share the table."""
        if name not in self._places and self.base.config.tie_word_embeddings:
            name = self._table if name.startswith("lm_head.") else name
        if name not in self._places:
            raise Refusal("slicing.missing_tensor", name=name[:200])
        return self._places[name]


@contextmanager
def parameters_without_storage() -> Iterator[None]:
    """Within, every parameter that this thread's modules register gets the meta device; buffers stay real."""
    register, thread = nn.Module.register_parameter, get_ident()

    def without_storage(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if get_ident() == thread and parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = without_storage  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _copy_all_but_weights(folder: Path, own: Path, spec: ModelSpec) -> list[str]:
    """Copy and check the pinned files but the weights, whose names are returned."""
    weights = []
    for name, pin in sorted(spec.files.items()):
        base_files.check_name(name)
        if name.endswith(".safetensors"):
            weights.append(name)
        elif base_files.copy_hashed(folder / name, own / name) != pin:
            raise Refusal("model.file_changed", file=name)
    if CONFIG not in spec.files:
        raise Refusal("model.file_missing", file=CONFIG)
    if not weights:
        raise Refusal("model.no_weights")
    base_files.refuse_remote_code(own)
    return weights
