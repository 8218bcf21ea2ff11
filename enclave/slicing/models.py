"""A base model, whole, for a client slice that holds all of it (`all_in_tee`), the baselines and the tests.

Its files are those that the manifest pins (base_files.py). Runs inside the enclave, which copies each pinned
file once into a private place, hashes that very copy, and never looks at the folder again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from contracts.manifest import ModelSpec
from contracts.model_files import CONFIG
from contracts.refusal import Refusal
from enclave.slicing.base_files import (
    check_name,
    configure,
    copy_hashed,
    refuse_remote_code,
    refusing_what_transformers_cannot_read,
    weight_files,
)
from enclave.slicing.eager import built_in_memory


def load(folder: Path, spec: ModelSpec) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Build the base model in float32, evaluation mode, and its tokenizer, from the files that `spec` pins.

    Every file is hashed before anything of it is believed; files that the manifest does not pin are
    ignored. Weights that the checkpoint lacks (a fresh classification head) are drawn from a fixed seed;
    `adapt` draws the head again from the run's.

    Raises: a `model.*` code.
    """
    with tempfile.TemporaryDirectory(prefix="fedslice-model-") as private:
        copy = Path(private)
        for name, expected in sorted(spec.files.items()):
            check_name(name)
            if copy_hashed(folder / name, copy / name) != expected:
                raise Refusal("model.file_changed", file=name)
        for name in (CONFIG, *weight_files(copy)):
            if name not in spec.files:
                raise Refusal("model.file_missing", file=name)
        refuse_remote_code(copy)
        with refusing_what_transformers_cannot_read(copy, spec):
            return _build(copy, spec)


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
