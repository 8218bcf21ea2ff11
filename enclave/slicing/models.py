"""A base model, whole, for a client slice that holds all of it (`all_in_tee`), the baselines and the tests.

Its files are those that the manifest pins (base_files.py). Runs inside the enclave, which copies each pinned
file once into a private place, hashes that very copy, and never looks at the folder again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights, no_tie_weights
from transformers.modeling_utils import local_torch_dtype

from contracts.manifest import Lora, Manifest, ModelSpec, Prefix
from contracts.refusal import Refusal
from enclave.slicing.adapters import adapt
from enclave.slicing.base_files import configure, copy_pinned, refusing_what_transformers_cannot_read
from enclave.slicing.eager import BUILDING


def load(folder: Path, spec: ModelSpec) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Build the base model in float32, evaluation mode, and its tokenizer, from the files that `spec` pins.

    Every file is hashed before anything of it is believed; files that the manifest does not pin are
    ignored. Weights that the checkpoint lacks (a fresh classification head) are drawn from a fixed seed;
    `adapt` draws the head again from the run's.

    Raises: a `model.*` code.
    """
    with tempfile.TemporaryDirectory(prefix="fedslice-model-") as private:
        copy = Path(private)
        copy_pinned(folder, copy, spec, weights=True)
        with refusing_what_transformers_cannot_read(copy, spec):
            return _build(copy, spec)


def load_tuned(folder: Path, manifest: Manifest) -> tuple[Any, PreTrainedTokenizerBase]:
    """The base model with the manifest's adapter, and its tokenizer.

    Raises: as `load`; `adapter.*` or `manifest.invalid`.
    """
    base, tokenizer = load(folder, manifest.model)
    adapter, seed = manifest.adapter, manifest.training.seed
    if isinstance(adapter, Lora):
        return adapt(base, adapter, seed), tokenizer
    if isinstance(adapter, Prefix):
        from enclave.slicing.prefix import tune_prefix, usable_tokens

        usable_tokens(base, adapter, manifest.model.max_tokens)
        return tune_prefix(base, adapter, seed), tokenizer
    raise Refusal("manifest.invalid", fault="a client slice has no part in method-2")


def _build(folder: Path, spec: ModelSpec) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    config, tokenizer, automatic = configure(folder, spec)
    with built_in_memory(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = automatic.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",
            use_safetensors=True,
            ignore_mismatched_sizes=spec.task != "causal-lm",
            local_files_only=True,
        )
    return model.eval(), tokenizer


@contextmanager
def built_in_memory() -> Iterator[None]:
    """Within, transformers builds a model in memory, and draws no values that a checkpoint gives anyway. It
    would take the meta device, some of whose kernels are written in Python and load sympy. One thread at a
    time: what changes here, and torch's generator, belong to the process."""

    def contexts(cls: Any, dtype: torch.dtype, *_: Any) -> list[Any]:
        return [local_torch_dtype(dtype, cls.__name__), no_tie_weights(), no_init_weights()]

    with BUILDING:
        original = vars(PreTrainedModel)["get_init_context"]
        PreTrainedModel.get_init_context = classmethod(contexts)  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            PreTrainedModel.get_init_context = original  # type: ignore[method-assign]
