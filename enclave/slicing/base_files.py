"""Base models: the files that a manifest pins, and what of them is believed.

A base model is public, but which one it is decides what is trained, so the manifest pins every file that is
read by its SHA-256. Runs on both sides of the trust boundary: the lead's side resolves and pins, the enclave
loads. The enclave's host owns the folder, so the enclave copies each pinned file once into a private place,
hashes that very copy, and never looks at the folder again (under Gramine `/tmp` is memory of the enclave).

Only safetensors are read, only architectures inside transformers are built, no code of a model is ever run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from contracts.architecture.positions import positions_of
from contracts.manifest import ModelSpec
from contracts.model_files import AUXILIARY, CONFIG, INDEX
from contracts.refusal import Refusal

_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\.safetensors")
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack")
_BLOCK = 1 << 20

# Its load reports and progress bars are not ours; what matters of them becomes a refusal.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


@contextmanager
def refusing_what_transformers_cannot_read(private: Path, spec: ModelSpec) -> Iterator[None]:
    """Within, whatever is raised but a refusal becomes `model.unreadable`, without the name of the private
    folder: transformers has no common exception for a model that it cannot read.

    Raises: `model.unreadable`.
    """
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        fault = f"{type(error).__name__}: {error}".split("\n")[0][:200].replace(str(private), "")
        raise Refusal("model.unreadable", task=spec.task, fault=fault) from error


def configure(folder: Path, spec: ModelSpec) -> tuple[PretrainedConfig, PreTrainedTokenizerBase, Any]:
    """Configuration, tokenizer and the automatic class of a model for the task.

    Raises: `model.too_many_tokens`.
    """
    closed: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **closed)
    limit = positions_of(config)
    if limit and spec.max_tokens > limit:
        raise Refusal("model.too_many_tokens", tokens=spec.max_tokens, limit=limit)
    tokenizer = AutoTokenizer.from_pretrained(folder, **closed)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    config.pad_token_id = tokenizer.pad_token_id
    if getattr(config, "type_vocab_size", 0) < 2:  # tokenizers give segments to models that read none
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    _switch_dropout_off(config)
    if spec.task == "causal-lm":
        config.use_cache = False
        return config, tokenizer, AutoModelForCausalLM
    config.id2label = dict(enumerate(spec.labels))
    config.label2id = {label: index for index, label in enumerate(spec.labels)}
    tags = spec.task == "token-classification"
    return config, tokenizer, AutoModelForTokenClassification if tags else AutoModelForSequenceClassification


def _switch_dropout_off(config: PretrainedConfig) -> None:
    """Low-rank tuning for a few epochs was seen to do without it, and drawing its masks took a fifth of the
    training time on a CPU."""
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)


def check_name(name: str) -> None:
    if PurePosixPath(name).suffix in PICKLED:
        raise Refusal("model.pickle_weights", file=name[:100])
    if name not in (CONFIG, INDEX, *AUXILIARY) and not _SHARD.fullmatch(name):
        raise Refusal("model.unsafe_name")


def refuse_remote_code(folder: Path) -> None:
    for name in (CONFIG, "tokenizer_config.json"):
        if (folder / name).is_file():
            try:
                settings = json.loads((folder / name).read_bytes())
            except ValueError as error:
                raise Refusal("model.unreadable", task="any", fault=f"{name} is not JSON") from error
            if not isinstance(settings, dict) or "auto_map" in settings:
                raise Refusal("model.remote_code", file=name)


def copy_pinned(folder: Path, private: Path, spec: ModelSpec, *, weights: bool) -> list[str]:
    """Copy and check the files that `spec` pins, the weights among them only where that is said.

    Returns: the names of the weights.

    Raises: `model.*`.
    """
    found = [name for name in sorted(spec.files) if name.endswith(".safetensors")]
    for name, pin in sorted(spec.files.items()):
        check_name(name)
        if (weights or name not in found) and copy_hashed(folder / name, private / name) != pin:
            raise Refusal("model.file_changed", file=name)
    if CONFIG not in spec.files:
        raise Refusal("model.file_missing", file=CONFIG)
    if not found:
        raise Refusal("model.no_weights")
    refuse_remote_code(private)
    return found


def copy_hashed(source: Path, target: Path) -> str:
    """Copy in one pass and return the SHA-256 of the bytes copied, so no host can swap them between.

    Raises: `model.file_missing`.
    """
    digest = hashlib.sha256()
    try:
        with source.open("rb") as opened, target.open("wb") as written:
            while block := opened.read(_BLOCK):
                digest.update(block)
                written.write(block)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise Refusal("model.file_missing", file=source.name) from error
    return digest.hexdigest()
