"""A model that is larger than memory, as a small one: one layer of each kind, with its true weights.

Layers are of one kind if the configuration says so and their tensors have the same names and shapes. So a
layer that lacks a tensor is a kind of its own, is among those that are built, and is found out. The small
model lies in a folder like any other, so that the same passes are made with it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from contracts.model_files import CONFIG, WEIGHTS
from contracts.refusal import Refusal
from enclave_host.proving.files import Tensor

MAX_KINDS = 4
_LAYER = re.compile(r"(?P<before>.*?\b(?:layers|layer|h|block|blocks))\.(?P<number>\d+)\.(?P<after>.+)")


def layers_of(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Layer number -> what it holds, by the names behind the number."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _LAYER.fullmatch(name):
            found.setdefault(int(match["number"]), {})[match["after"]] = tensor
    return found


def require_layers(tensors: dict[str, Tensor], count: int) -> None:
    """Every layer of the configuration stands in the files, and no other.

    Raises: `model.missing_tensors` or `model.unexpected_tensors`.
    """
    found = set(layers_of(tensors))
    if not found:
        return  # layers of another name; the whole model is compared tensor by tensor then
    if missing := sorted(set(range(count)) - found):
        raise Refusal("model.missing_tensors", missing=len(missing), count=count, first=f"layer {missing[0]}")
    if beyond := sorted(found - set(range(count))):
        raise Refusal("model.unexpected_tensors", unexpected=len(beyond), first=f"layer {beyond[0]}")


def reduce(folder: Path, small: Path, tensors: dict[str, Tensor], config: dict[str, Any], count: int) -> bool:
    """Write the small model to `small`; False, and nothing, where no layer can be left out. `config` is the
    configuration's JSON, `count` its layers.

    Raises: `model.not_reducible`.
    """
    chosen = _one_of_each(tensors, config, count)
    if len(chosen) == count:
        return False
    if not chosen:
        raise Refusal("model.not_reducible", fault="its layers are not numbered as usual")
    if len(chosen) > MAX_KINDS:
        raise Refusal("model.not_reducible", fault=f"it has {len(chosen)} kinds of layers")
    small.mkdir()
    for file in folder.iterdir():
        if file.is_file() and file.suffix in (".json", ".txt", ".model") and "safetensors" not in file.name:
            shutil.copyfile(file, small / file.name)
    name = next(key for key in ("num_hidden_layers", "n_layer", "num_layers", "n_layers") if key in config)
    changed: dict[str, Any] = {name: len(chosen)}
    if isinstance(config.get("layer_types"), list):
        changed["layer_types"] = [config["layer_types"][number] for number in chosen]
    (small / CONFIG).write_text(json.dumps({**config, **changed}))
    kept = {}
    for weights in sorted({tensor.file for tensor in tensors.values()}):
        with safe_open(folder / weights, framework="pt") as opened:
            for tensor in (name for name in tensors if tensors[name].file == weights):
                if (new := _renumbered(tensor, chosen)) is not None:
                    kept[new] = opened.get_tensor(tensor)
    save_file(kept, small / WEIGHTS, {"format": "pt"})
    return True


def _one_of_each(tensors: dict[str, Tensor], config: dict[str, Any], count: int) -> list[int]:
    """Numbers of the first layer of each kind, two layers at least where there are two."""
    types = config.get("layer_types")
    kinds: dict[Any, int] = {}
    for number, held in sorted(layers_of(tensors).items()):
        shapes = frozenset((after, tensor.shape) for after, tensor in held.items())
        kind = types[number] if isinstance(types, list) and number < len(types) else ""
        kinds.setdefault((str(kind), shapes), number)
    chosen = sorted(kinds.values())
    if len(chosen) == 1 and count > 1:
        chosen.append(chosen[0] + 1)
    return chosen


def _renumbered(name: str, chosen: list[int]) -> str | None:
    """The tensor's name in the small model; None for one of a layer that is left out."""
    match = _LAYER.fullmatch(name)
    if match is None:
        return name
    number = int(match["number"])
    if number not in chosen:
        return None
    return f"{match['before']}.{chosen.index(number)}.{match['after']}"
