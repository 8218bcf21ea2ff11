"""A model's files, before any library reads them: what they really are, and whether they are whole."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.model_files import AUXILIARY, CONFIG, INDEX, WEIGHTS
from contracts.refusal import Refusal
from contracts.sealed.package import ADAPTER_CONFIG

MAX_HEADER = 64 << 20
MAX_LABELS = 100_000
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_LFS = b"version https://git-lfs.github.com/spec/"
_MARKS = ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: its file's name, its type as safetensors says it, its shape."""

    file: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        return self.numbers * _SIZES.get(self.dtype, 0)


def look_at(folder: Path) -> None:
    """What can be said of the files at a glance.

    Raises: as `read_config` and, of weights in one file, as `read_tensors`.
    """
    read_config(folder)
    if (folder / WEIGHTS).is_file():
        _header(folder / WEIGHTS)


def read_config(folder: Path) -> dict[str, Any]:
    """Every file of text is what its name says; returns the configuration.

    Raises: `model.not_a_file`, `model.lfs_pointer`, `model.byte_order_mark`, `model.bad_json`,
    `model.file_missing`, `model.no_model_type`, `model.quantised`, `model.encoder_decoder`,
    `model.is_adapter` or `model.is_gguf`.
    """
    _require_files(folder)
    if not any(folder.glob("*.safetensors")):
        for other in sorted(folder.glob("*.gguf")):
            raise Refusal("model.is_gguf", file=other.name[:100])
    if not (folder / CONFIG).is_file():
        if (folder / ADAPTER_CONFIG).is_file():
            raise Refusal("model.is_adapter", file=ADAPTER_CONFIG)
        raise Refusal("model.file_missing", file=CONFIG)
    for name in (CONFIG, INDEX, *AUXILIARY):
        file = folder / name
        if file.is_file():
            _look_at(file)
    config: dict[str, Any] = json.loads((folder / CONFIG).read_bytes())
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise Refusal("model.no_model_type", file=CONFIG)
    labels = [config.get("num_labels"), *(len(config.get(n) or ()) for n in ("id2label", "label2id"))]
    if any(isinstance(count, int | float) and count > MAX_LABELS for count in labels):
        raise Refusal("model.bad_json", file=CONFIG, fault=f"it names more than {MAX_LABELS} labels")
    if config.get("quantization_config"):
        raise Refusal("model.quantised", file=CONFIG)
    if config.get("is_encoder_decoder"):
        raise Refusal("model.encoder_decoder", kind=config["model_type"][:100])
    return config


def _require_files(folder: Path) -> None:
    """What stands there under a name that is read is a file that may be read.

    Raises: `model.not_a_file`.
    """
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise Refusal("model.not_a_file", file=folder.name[:100], fault="not for this account to read")
    names = (CONFIG, INDEX, *AUXILIARY, *(file.name for file in sorted(folder.glob("*.safetensors"))))
    for file in (folder / name for name in names):
        if not os.path.lexists(file):
            continue
        if not file.is_file():
            raise Refusal("model.not_a_file", file=file.name[:100], fault="a folder, a pipe or a broken link")
        if not os.access(file, os.R_OK):
            raise Refusal("model.not_a_file", file=file.name[:100], fault="not for this account to read")


def _look_at(file: Path) -> None:
    with file.open("rb") as opened:
        start = opened.read(len(_LFS))
    if start == _LFS:
        raise Refusal("model.lfs_pointer", file=file.name)
    if not file.name.endswith(".json"):
        return
    for mark, name in _MARKS:
        if start.startswith(mark):
            raise Refusal("model.byte_order_mark", file=file.name, encoding=name)
    try:
        read = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Refusal("model.bad_json", file=file.name, fault=str(error)[:200]) from error
    if not isinstance(read, dict):
        raise Refusal("model.bad_json", file=file.name, fault="it holds no object")


def read_tensors(folder: Path, pins: dict[str, str]) -> dict[str, Tensor]:
    """Every tensor of every pinned safetensors file, from their headers alone: each file is whole, no name
    stands twice, and an index says what is true.

    Raises: `model.lfs_pointer`, `model.not_safetensors`, `model.truncated`, `model.tensor_twice` or
    `model.index_wrong`.
    """
    found: dict[str, Tensor] = {}
    for name in sorted(pins):
        if name.endswith(".safetensors"):
            for tensor, place in _header(folder / name).items():
                if tensor in found:
                    raise Refusal(
                        "model.tensor_twice", tensor=tensor[:200], file=name, other=found[tensor].file
                    )
                found[tensor] = place
    if not found:
        raise Refusal("model.no_weights")
    if INDEX in pins:
        weight_map: dict[str, str] = json.loads((folder / INDEX).read_bytes())["weight_map"]
        wrong = [
            name
            for name in {*weight_map, *found}
            if name not in found or weight_map.get(name) != found[name].file
        ]
        if wrong:
            raise Refusal("model.index_wrong", file=INDEX, tensor=min(wrong)[:200], count=len(wrong))
    return found


def _header(file: Path) -> dict[str, Tensor]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(len(_LFS))
        if start == _LFS:
            raise Refusal("model.lfs_pointer", file=file.name)
        length = int.from_bytes(start[:8], "little")
        if not 2 <= length <= MAX_HEADER:
            raise Refusal("model.not_safetensors", file=file.name, fault="it does not begin with a header")
        if 8 + length > size:
            raise Refusal("model.truncated", file=file.name, bytes=size, expected=8 + length)
        opened.seek(8)
        try:
            lines = json.loads(opened.read(length))
            lines.pop("__metadata__", None)
            tensors = {name: _tensor(file, line) for name, line in lines.items()}
            end = max((line["data_offsets"][1] for line in lines.values()), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Refusal(
                "model.not_safetensors", file=file.name, fault="its header cannot be read"
            ) from error
    if 8 + length + end > size:
        raise Refusal("model.truncated", file=file.name, bytes=size, expected=8 + length + end)
    return tensors


def _tensor(file: Path, line: dict[str, Any]) -> Tensor:
    return Tensor(file.name, str(line["dtype"]), tuple(int(size) for size in line["shape"]))
