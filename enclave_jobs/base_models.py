"""Register a base model: look at its folder, pin its files, and tell the control plane, which loads no
models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from safetensors import safe_open
from transformers import AutoConfig

from contracts.model_files import CONFIG
from enclave.slicing.models import pin
from enclave_host.base_models import resolve
from federation.studies.models import BaseModel
from federation.studies.services import register_base_model

MAX_TOKENS = 8192
# What the control plane counts costs from (federation/studies/costs.py), by the names that all architectures
# share: GPT-2's n_embd is hidden_size here.
SHAPE = (
    "model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
    "head_dim", "intermediate_size", "n_inner", "vocab_size", "max_position_embeddings",
)  # fmt: skip


def register(source: str, task: str, *, name: str = "", targets: list[str] | None = None) -> BaseModel:
    """Pin every file that an enclave will read of this model and offer it to studies.

    `targets` defaults to the LoRA targets that peft names for the architecture. Refuses with a `model.*`
    code.
    """
    folder = resolve(source)
    files = pin(folder)
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(config.get("model_type", ""), [])
    return register_base_model(
        source,
        task,
        files,
        name=name or source.rpartition(":")[2],
        parameters=_parameters(folder, files),
        max_tokens=min(int(config.get("max_position_embeddings", 512)), MAX_TOKENS),
        targets=targets or sorted(known),
        config=_shape(folder),
    )


def _shape(folder: Path) -> dict[str, Any]:
    """The numbers of the model's configuration that decide what a study costs."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    found = {name: getattr(config, name, None) for name in SHAPE}
    return {name: value for name, value in found.items() if value is not None}


def _parameters(folder: Path, files: dict[str, str]) -> int:
    """The number of weights, from the headers of the safetensors files; no tensor is read."""
    total = 0
    for file in files:
        if file.endswith(".safetensors"):
            with safe_open(folder / file, framework="np") as weights:
                total += sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    return total
