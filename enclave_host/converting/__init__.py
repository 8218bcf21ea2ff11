"""Convert a pickled checkpoint (`pytorch_model.bin`) to safetensors, once, by an explicit command.

A pickle is a program. It is read in a bounded child (`python -m enclave_host.converting`) that has the files
open and can open nothing else: no network, no process, no secret, by seccomp; and by torch's own reader that
builds nothing but tensors. The same input gives the same bytes, so that anybody can convert again and compare
what a manifest pins.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.canonical import canonical
from contracts.model_files import AUXILIARY, CONFIG, INDEX, WEIGHTS
from contracts.refusal import Refusal
from enclave_host.bounded import ChildLimits, run_bounded
from enclave_host.child_calls import UNPICKLE, Tell, Unpickle
from enclave_host.proving.files import read_config, read_tensors

PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"
ORIGIN = "converted_from.json"
SLACK = 64 << 20
"""Bytes that a file may grow by: its header."""


@dataclass(frozen=True)
class Converted:
    """SHA-256 by name: of the pickled files, and of what was made of them."""

    sources: dict[str, str]
    made: dict[str, str]


def convert(
    folder: Path, target: Path, *, limits: ChildLimits | None = None, tell: Tell | None = None
) -> Converted:
    """Write `target`, a model's folder with safetensors in a canonical order and the other files of `folder`.

    Raises: `convert.*`, `model.*` or `child.*`, and then `target` is not there.
    """
    if target.exists():
        raise Refusal("convert.exists", folder=str(target)[-200:])
    read_config(folder)
    pickles = _pickles(folder)
    limits = limits or ChildLimits.of_this_machine()
    disk = sum((folder / name).stat().st_size for name in pickles) + SLACK
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as staging:
        made = Path(staging) / "model"
        made.mkdir()
        files = tuple(
            (str(folder / old), str(made / new))
            for old, new in zip(pickles, _names(len(pickles)), strict=True)
        )
        run_bounded(UNPICKLE, Unpickle(files), ChildLimits(limits.memory, limits.seconds, disk), tell)
        new = [Path(new).name for _, new in files]
        tensors = read_tensors(made, dict.fromkeys(new, ""))
        if len(new) > 1:
            total = sum(tensor.size for tensor in tensors.values())
            index = {"metadata": {"total_size": total}, "weight_map": {n: t.file for n, t in tensors.items()}}
            (made / INDEX).write_bytes(canonical(index))
        for name in (CONFIG, *AUXILIARY):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, made / name)
        converted = Converted(_hashes(folder, pickles), _hashes(made, new))
        (made / ORIGIN).write_bytes(canonical({"sources": converted.sources, "made": converted.made}))
        made.rename(target)
    return converted


def _pickles(folder: Path) -> list[str]:
    """The pickled files in the order of their names.

    Raises: `convert.nothing`.
    """
    if (folder / PICKLED).is_file():
        return [PICKLED]
    try:
        named: Any = json.loads((folder / PICKLED_INDEX).read_bytes())["weight_map"].values()
        found = sorted(set(named))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise Refusal("convert.nothing", files=f"{PICKLED}, {PICKLED_INDEX}") from error
    for name in found:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise Refusal("model.file_missing", file=str(name)[:100])
    return found


def _names(count: int) -> list[str]:
    if count == 1:
        return [WEIGHTS]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _hashes(folder: Path, names: list[str]) -> dict[str, str]:
    found = {}
    for name in names:
        with (folder / name).open("rb") as opened:
            found[name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found
