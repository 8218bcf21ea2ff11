"""What a released adapter is: a package that plain peft and transformers load, without FedSlice.

LoRA and prefixes become a PEFT adapter directory; SPF, for which PEFT has no format, the rows that were tuned
as differences from the base model. Made inside the enclave; opened wherever it was released to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from contracts.kinds import SEVERAL, Task
from contracts.lora_scale import lora_scale
from contracts.manifest import Lora, Manifest, Prefix
from contracts.refusal import Refusal
from contracts.sealed.package import ABOUT, ADAPTER, ADAPTER_CONFIG, HEAD, README, ROWS, Files, zipped

MAX_CONFIG_BYTES = 1 << 20
CONFIG = "config.json"

State = dict[str, NDArray[Any]]
_PROMPT = "prompt_embeddings"
LORA_PAIR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


def pinned_config(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """The base model's configuration as JSON, against its pin.

    Raises: `release.missing_config`.
    """
    try:
        with (folder / CONFIG).open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES)
        if hashlib.sha256(data).hexdigest() != manifest.model.files.get(CONFIG):
            raise Refusal("release.missing_config")
        config: dict[str, Any] = json.loads(data)
    except (OSError, ValueError) as error:
        raise Refusal("release.missing_config") from error
    return config


def adapter_files(manifest: Manifest, state: State, config: Mapping[str, Any]) -> Files:
    """Method 1: the PEFT adapter directory of the tuned parameters.

    Raises: `release.missing_config` where the configuration does not fit them; `manifest.invalid`.
    """
    adapter = manifest.adapter
    if isinstance(adapter, Prefix):
        settings, tensors, aside = _prefix(adapter, state, config)
    elif isinstance(adapter, Lora):
        settings, tensors, aside = _lora(adapter, state, config), state, {}
        if manifest.front is not None:
            # Else whoever loads it would put pairs on the layers below as well.
            layers = _number(config, "num_hidden_layers", "n_layer")
            settings["layers_to_transform"] = list(range(manifest.front.first, layers))
    else:
        raise Refusal("manifest.invalid", fault="an aggregator has no part in method-2")
    settings |= {
        "task_type": _task(manifest),
        "base_model_name_or_path": manifest.model.source,
        "inference_mode": True,
    }
    files = {ADAPTER_CONFIG: _json(settings), ADAPTER: tensor_bytes(tensors)}
    return files | ({HEAD: tensor_bytes(aside)} if aside else {})


def pack(manifest: Manifest, receipt: str, files: Files) -> bytes:
    """The package: `files`, what they are, and how to load them. The same content gives the same bytes."""
    adapter = manifest.adapter
    about = {
        "format": "fedslice-release/1",
        "run": manifest.run,
        "study": manifest.study,
        "manifest": manifest.hash,
        "receipt": receipt,
        "rule": manifest.release.rule,
        "model": {"source": manifest.model.source, "files": manifest.model.files},
        "task": manifest.model.task,
        "labels": manifest.model.labels,
        "several_labels": manifest.coded == SEVERAL,
        "adapter": type(adapter).__name__.lower(),
        "scale": 0.0 if isinstance(adapter, Prefix) else lora_scale(adapter),
        "placement": manifest.placement,
        "development": manifest.policy.root == "development",
    }
    files = {**files, ABOUT: _json(about), README: readme(manifest, files).encode()}
    return zipped(files)


def readme(manifest: Manifest, files: Files) -> str:
    """For whoever opens the package: what it is, and lines of Python that load it."""
    auto = f"AutoModelFor{_TASKS[manifest.model.task][1]}"
    named = "" if manifest.model.task == "causal-lm" else f", num_labels={len(manifest.model.labels)}"
    lines = [
        f"# {manifest.study}",
        "",
        f"Tuned parameters of run {manifest.run}, released by the rule {manifest.release.rule}. They carry",
        "information about the rows that they were trained on: keep them as you keep those.",
        "`release.json` names manifest, receipt, base model (by the SHA-256 of its files) and labels.",
        *(_DEVELOPMENT if manifest.policy.root == "development" else ()),
        "",
        "```python",
        f"from transformers import {auto}",
        "from safetensors.torch import load_file",
        "",
        f"model = {auto}.from_pretrained(base{named})  # base: the base model's folder",
    ]
    if HEAD in files:
        lines.append(f'model.load_state_dict(load_file("{HEAD}"), strict=False)')
    if ADAPTER in files:
        lines += ["from peft import PeftModel", 'model = PeftModel.from_pretrained(model, ".").eval()']
    else:
        lines += _ROWS_RECIPE
    lines += ["```", ""]
    if manifest.coded == SEVERAL:
        lines += ["A text may have several labels: take the sigmoid of each score, not the softmax.", ""]
    if manifest.masking is not None:
        lines += [
            "Tuned on int8 weights (placement masked): on the float model scores differ a little.",
            "",
        ]
    return "\n".join(lines)


_DEVELOPMENT = ("DEVELOPMENT ONLY: the enclaves were ordinary processes, nothing protected the training.",)
_ROWS_RECIPE = [
    "import json, torch",
    "",
    f'tensors, scale = load_file("{ROWS}"), json.load(open("{ABOUT}"))["scale"]',
    "with torch.no_grad():",
    "    for name, tensor in tensors.items():",
    '        kind, _, place = name.partition("/")',
    '        if kind == "value":',
    "            model.get_parameter(place).copy_(tensor)",
    '        elif kind in ("rows", "lora_A"):',
    "            module = model.get_submodule(place)",
    "            # GPT-2 keeps its matrices the other way round.",
    '            weight = module.weight if hasattr(module, "out_features") else module.weight.t()',
    '            if kind == "rows":',
    '                weight[tensor] += tensors[f"delta/{place}"]',
    "            else:",
    '                weight += scale * tensors[f"lora_B/{place}"] @ tensor',
    "model.eval()",
]


def _lora(adapter: Lora, state: State, config: Mapping[str, Any]) -> dict[str, Any]:
    head = {
        name.removeprefix("base_model.model.").rpartition(".")[0]
        for name in state
        if LORA_PAIR.fullmatch(name) is None
    }
    return {
        "peft_type": "LORA",
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "use_rslora": adapter.rslora,
        "bias": "none",
        "fan_in_fan_out": config.get("model_type") == "gpt2",
        "target_modules": list(adapter.targets),
        "modules_to_save": sorted(head) or None,
    }


def _prefix(adapter: Prefix, state: State, config: Mapping[str, Any]) -> tuple[dict[str, Any], State, State]:
    """PEFT's settings, its tensors, and those for which its format has no place: a tuned pooler."""
    all_heads = _number(config, "num_attention_heads", "n_head")
    layers = _number(config, "num_hidden_layers", "n_layer")
    heads = _number(config, "num_key_value_heads") or all_heads
    size = _number(config, "head_dim") or _number(config, "hidden_size", "n_embd") // max(all_heads, 1)
    prompt = state[_PROMPT]
    if prompt.shape[1] != 2 * layers * heads * size or not layers:
        raise Refusal("release.missing_config")
    settings = {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": adapter.length,
        "token_dim": heads * size,
        "num_attention_heads": heads,
        "num_layers": layers,
        "num_transformer_submodules": 1,
        "prefix_projection": False,
    }
    tensors, aside = {_PROMPT: prompt}, {}
    for name, tensor in state.items():
        place = name.removeprefix("base_model.")
        if place.startswith(("classifier.", "score.")):
            tensors[name] = tensor
        elif name != _PROMPT:
            aside[place] = tensor
    return settings, tensors, aside


def _number(config: Mapping[str, Any], *names: str) -> int:
    return next((config[name] for name in names if isinstance(config.get(name), int)), 0)


_TASKS: dict[Task, tuple[str, str]] = {
    "sequence-classification": ("SEQ_CLS", "SequenceClassification"),
    "token-classification": ("TOKEN_CLS", "TokenClassification"),
    "causal-lm": ("CAUSAL_LM", "CausalLM"),
}
"""A task as PEFT calls it, and transformers."""


def _task(manifest: Manifest) -> str:
    return _TASKS[manifest.model.task][0]


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def tensor_bytes(tensors: State) -> bytes:
    dense = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}  # memory as it looks
    data: bytes = safetensors.numpy.save(dense, {"format": "pt"})
    return data
