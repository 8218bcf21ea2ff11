"""Which files of a base model's folder a manifest pins, and their hashes. No enclave loads this."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from contracts.model_files import AUXILIARY, CONFIG, INDEX, WEIGHTS
from contracts.refusal import Refusal
from enclave.slicing.base_files import PICKLED, check_name, refuse_remote_code


def pin(folder: Path) -> dict[str, str]:
    """SHA-256 of exactly the files that an enclave will read: configuration, safetensors, tokenizer.

    Raises: `model.no_weights`, `model.pickle_weights`, `model.file_missing` or `model.remote_code`.
    """
    if not (folder / CONFIG).is_file():
        raise Refusal("model.file_missing", file=CONFIG)
    names = [CONFIG, *_weight_files(folder), *(name for name in AUXILIARY if (folder / name).is_file())]
    for name in names:
        if not (folder / name).is_file():
            raise Refusal("model.file_missing", file=name)
    refuse_remote_code(folder)
    return {name: _sha256(folder / name) for name in sorted(names)}


def _weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files (and of their index) in the folder.

    Raises: `model.no_weights` or `model.pickle_weights`.
    """
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        try:
            shards = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
            for shard in shards:
                check_name(shard)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise Refusal("model.no_weights") from error
        return [INDEX, *shards]
    for file in sorted(folder.iterdir()):
        if file.suffix in PICKLED:
            raise Refusal("model.pickle_weights", file=file.name[:100])
    raise Refusal("model.no_weights")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
