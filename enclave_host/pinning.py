"""Which files of a base model's folder a manifest pins, and their hashes. No enclave loads this."""

from __future__ import annotations

import hashlib
from pathlib import Path

from contracts.model_files import AUXILIARY, CONFIG
from contracts.refusal import Refusal
from enclave.slicing.base_files import refuse_remote_code, weight_files


def pin(folder: Path) -> dict[str, str]:
    """SHA-256 of exactly the files that an enclave will read: configuration, safetensors, tokenizer.

    Raises: `model.no_weights`, `model.pickle_weights`, `model.file_missing` or `model.remote_code`.
    """
    if not (folder / CONFIG).is_file():
        raise Refusal("model.file_missing", file=CONFIG)
    names = [CONFIG, *weight_files(folder), *(name for name in AUXILIARY if (folder / name).is_file())]
    for name in names:
        if not (folder / name).is_file():
            raise Refusal("model.file_missing", file=name)
    refuse_remote_code(folder)
    return {name: _sha256(folder / name) for name in sorted(names)}


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
