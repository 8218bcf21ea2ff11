"""Read a pickle of tensors, and write them as safetensors in an order that their names alone decide.

Runs in the child, behind seccomp, on files that are open.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from typing import Any, BinaryIO

import torch
from torch import Tensor

from contracts.refusal import Refusal

TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
WRAPPERS = ("state_dict", "model_state_dict")
_BLOCK = 1 << 26


def warm_up() -> None:
    """Load what torch and numpy load late: no file can be opened afterwards."""
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"a": torch.zeros(2, 2).t()}, file, _use_new_zipfile_serialization=zipped)
        file.seek(0)
        write(state_of(file, "warm-up"), io.BytesIO())


def state_of(file: BinaryIO, name: str) -> dict[str, Tensor]:
    """The tensors of a pickle by their names.

    Raises: `convert.code` for a pickle that asks for anything but tensors, `convert.damaged`,
    `convert.not_weights` or `convert.bomb`.
    """
    try:
        read: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|global|class|function)\W+([\w.]+)", str(error))
        raise Refusal("convert.code", file=name, found=named[1][:100] if named else "code") from error
    except MemoryError:
        raise
    except Exception as error:
        if "allocate memory" in str(error):
            raise
        fault = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise Refusal("convert.damaged", file=name, fault=fault) from error
    for wrapper in WRAPPERS:
        if isinstance(read, dict) and isinstance(read.get(wrapper), dict):
            read = read[wrapper]
    if not isinstance(read, dict) or not read:
        raise Refusal("convert.not_weights", file=name, found=type(read).__name__)
    for key, value in read.items():
        _require_tensor(file, name, key, value)
    return dict(read)


def _require_tensor(file: BinaryIO, name: str, key: Any, value: Any) -> None:
    plain = isinstance(value, Tensor) and value.layout == torch.strided and value.dtype in TYPES
    if not isinstance(key, str) or not key.isprintable() or len(key) > 500 or not plain:
        raise Refusal("convert.not_weights", file=name, found=f"{str(key)[:100]!r}: {type(value).__name__}")
    # A view may show one number a billion times.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise Refusal("convert.bomb", file=name, fault=f"{key[:100]} is larger than what it is stored in")


def write(state: dict[str, Tensor], out: BinaryIO) -> None:
    """Safetensors: by size of a number (so that each is aligned), then by name; tensors that share memory are
    written each for itself."""
    order = sorted(state, key=lambda name: (-state[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name in order:
        tensor = state[name]
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    out.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        flat = state[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        for start in range(0, len(flat), _BLOCK):
            out.write(flat[start : start + _BLOCK].data)
