"""What a configuration describes, before memory is given for it, against what the files hold.

A model is built of its configuration, and only then are the files read into it: a number too large there
costs the memory of whoever tries the model. So it is described first, on torch's device "meta", which stores
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from enclave.slicing.base_files import refusing_what_transformers_cannot_read
from enclave_host.proving.files import Tensor

SLACK = 1 << 20
"""Numbers of a small model's head or pooler that files may lack."""


def require_sizes(folder: Path, spec: ModelSpec, tensors: Mapping[str, Tensor]) -> int:
    """The count of layers. A whole language model has its output layer, even where the task needs none.

    Raises: `model.larger_than_files`, `model.missing_tensors` or `model.unreadable`.
    """
    held = sum(tensor.numbers for tensor in tensors.values())
    with refusing_what_transformers_cannot_read(folder, spec):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        layers = int(config.num_hidden_layers)
        if not 0 < layers <= len(tensors):
            raise Refusal("model.larger_than_files", what=f"{layers} layers", held=f"{len(tensors)} tensors")
        model = _described(config)
        numbers = {name: parameter.numel() for name, parameter in model.named_parameters()}
    described = sum(numbers.values()) + sum(math.prod(buffer.shape) for buffer in model.buffers())
    if described > 2 * held + SLACK:
        raise Refusal("model.larger_than_files", what=f"{described} numbers", held=f"{held}")
    output = _own_output(model, config)
    if output and output not in tensors:
        raise Refusal("model.missing_tensors", missing=1, count=len(numbers), first=output[:200])
    return layers


def _described(config: PretrainedConfig) -> PreTrainedModel:
    automatic: Any = AutoModelForCausalLM if _is_causal(config) else AutoModel
    with torch.device("meta"):
        model: PreTrainedModel = automatic.from_config(config, attn_implementation="eager")
    return model


def _is_causal(config: PretrainedConfig) -> bool:
    return any(str(name).endswith("ForCausalLM") for name in getattr(config, "architectures", None) or ())


def _own_output(model: PreTrainedModel, config: PretrainedConfig) -> str:
    """The name of the output layer's tensor; none where it is the embedding's, or there is no such layer."""
    output = model.get_output_embeddings()
    if not _is_causal(config) or output is None or getattr(config, "tie_word_embeddings", False):
        return ""
    return next((f"{name}.weight" for name, module in model.named_modules() if module is output), "")
