"""A pinned base model without its weights: what is built before values are put in.

Same pins, same configuration, same tokenizer and same classes as `slicing.models.load`, but parameters are
made without storage, so that whoever fills some of them uses no more memory than these take. Runs inside the
enclave, and outside where a front is run or a model prepared.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from contracts.architecture.rows import row_of
from contracts.manifest import ModelSpec
from enclave.slicing import base_files
from enclave.slicing.eager import BUILDING


class HollowBase:
    """A base model's configuration and tokenizer, and the names of the files with its weights in `folder`."""

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        """Reads every pinned file in `folder` once, but for the weights.

        Raises: `model.*` or `slicing.unknown_architecture`.
        """
        with tempfile.TemporaryDirectory(prefix="fedslice-model-") as private:
            own = Path(private)
            self.weights = base_files.copy_pinned(folder, own, spec, weights=False)
            with base_files.refusing_what_transformers_cannot_read(own, spec):
                config, tokenizer, automatic = base_files.configure(own, spec)
                self._kind: Any = automatic._model_mapping[type(config)]
                config.dtype = torch.float32
                config._attn_implementation = "eager"
        self.config: PretrainedConfig = config
        self.tokenizer: PreTrainedTokenizerBase = tokenizer
        self.architecture, self.spec, self.folder = row_of(config), spec, folder

    def build(self) -> PreTrainedModel:
        """The model, in evaluation mode, all of whose parameters lack storage."""
        with BUILDING, parameters_without_storage(), no_init_weights():
            model: PreTrainedModel = self._kind(copy.deepcopy(self.config))
        return model.eval()


def put_value(owner: nn.Module, key: str, value: Tensor | None) -> None:
    """Give a parameter of `owner` storage: that of a value, or zeros until `draw_lacking`.

    Args: `value` of the parameter's shape (…) float32, or of the type that is kept.
    """
    bare = owner.get_parameter(key)
    made: Any = nn.Parameter(torch.zeros(bare.shape) if value is None else value, bare.requires_grad)
    made._is_hf_initialized = value is not None
    setattr(owner, key, made)


def draw_lacking(model: PreTrainedModel) -> None:
    """Draw what has zeros and no value (a head that the checkpoint lacks) from a fixed seed, as
    `models.load` draws it."""
    for parameter in model.parameters():
        if parameter.is_meta:  # nothing is drawn for it: the kernels that would load sympy
            parameter._is_hf_initialized = True  # type: ignore[attr-defined]
    with BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.initialize_weights()


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
