"""The proof of a registration, and the check before a study is frozen: what the child does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import msgspec
from transformers import AutoConfig

from contracts.architecture.table import ARCHITECTURES
from contracts.entities import labels_of
from contracts.manifest import Adapter, Lora, ModelSpec, Prefix, Spf
from contracts.model_proof import ModelProof, Verdict, Way
from contracts.refusal import Refusal
from enclave.slicing.base_files import configure, refusing_what_transformers_cannot_read
from enclave_host.child_calls import ChildProgress, Prove, Tell, TryStudy
from enclave_host.pinning import pin
from enclave_host.preparing.preparation import prepare
from enclave_host.proving.files import Tensor, read_config, read_tensors
from enclave_host.proving.passes import TOKENS, WAYS, Trial, attempt, usual_targets
from enclave_host.proving.reduced import reduce, require_layers
from enclave_host.proving.sizes import require_sizes
from enclave_host.proving.tokens import (
    embedding_rows,
    require_tokenizer,
    special_of,
    template_of,
    usable_positions,
)
from enclave_host.proving.weights import build, require_finite

TWO_LABELS = ("a", "b")
SHAPE = (
    "model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
    "head_dim", "intermediate_size", "hidden_dim", "n_inner", "vocab_size", "max_position_embeddings",
)  # fmt: skip
"""What the control plane counts costs from (federation/studies/costs.py), by the names that all architectures
share: GPT-2's n_embd is hidden_size here."""


def proof_of(asked: Prove, tell: Tell) -> ModelProof:
    """The proof of a registration.

    Raises: `model.*`.
    """
    return _prove(Path(asked.folder), asked.task, asked.whole, asked.targets, tell)


@dataclass(frozen=True)
class _Looked:
    """A folder whose files and tensors were looked at."""

    pins: dict[str, str]
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    layers: int


def _look(folder: Path, task: str, tell: Tell) -> _Looked:
    """What the files and tensors say by themselves.

    Raises: as `read_config`, `read_tensors` and `require_sizes`; `model.reads_both_ways` for an encoder that
    is to write.
    """
    tell(ChildProgress("files"))
    config = read_config(folder)
    row = ARCHITECTURES.get(config["model_type"])
    if task == "causal-lm" and row is not None and not row.writes:
        raise Refusal("model.reads_both_ways", architecture=row.name)
    pins = pin(folder)
    tensors = read_tensors(folder, pins)
    layers = require_sizes(folder, _spec(pins, task), tensors)
    require_layers(tensors, layers)
    require_finite(folder, tensors, lambda done, of: tell(ChildProgress("tensors", done, of)))
    return _Looked(pins, config | _kinds(folder), tensors, layers)


def _kinds(folder: Path) -> dict[str, Any]:
    """The kinds of the layers (Gemma's windows, say) also where the configuration's file leaves them to its
    class."""
    built = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    kinds = getattr(built, "layer_types", None)
    return {"layer_types": list(kinds)} if kinds else {}


@contextmanager
def _runnable(folder: Path, looked: _Looked, whole: int) -> Iterator[tuple[Path, Path]]:
    """Two folders of the model: the one that is run whole, and one with a layer of each kind, which is the
    same where nothing can be left out. A model that does not fit is never run whole.

    Raises: `model.not_reducible`.
    """
    fits = 4 * sum(tensor.numbers for tensor in looked.tensors.values()) <= whole
    with tempfile.TemporaryDirectory(prefix="fedslice-small-") as own:
        small = Path(own) / "model"
        try:
            small = small if reduce(folder, small, looked.tensors, looked.config, looked.layers) else folder
        except Refusal:
            if not fits:
                raise
            small = folder
        if small == folder and not fits:
            raise Refusal("model.not_reducible", fault="all its layers differ")
        yield (folder if fits else small), small


def _prove(folder: Path, task: str, whole: int, targets: tuple[str, ...], tell: Tell) -> ModelProof:
    looked = _look(folder, task, tell)
    with _runnable(folder, looked, whole) as (run, small):
        spec = _spec(looked.pins if run == folder else pin(run), task)
        tell(ChildProgress("model"))
        model, new, unused = build(run, spec)
        with refusing_what_transformers_cannot_read(run, spec):
            config, tokenizer, _ = configure(run, spec)
        rows = embedding_rows(model)
        tokens = require_tokenizer(run, tokenizer, rows)
        positions = usable_positions(model)
        targets = targets or usual_targets(model)
        del model
        trial = Trial(run, spec, Lora(4, 8, targets or ("none",)), 1, min(TOKENS, positions), tokens)
        fewer = replace(trial, folder=small, spec=spec if small == run else _spec(pin(small), task))
        ways = {}
        for place, way in enumerate(WAYS):
            tell(ChildProgress("passes", place, len(WAYS), way))
            # One way is enough for all the numbers; the others differ in what they do with a layer.
            tried = trial if place == 0 else fewer
            ways[way] = attempt(way, replace(tried, adapter=_usual_adapter(way, trial)))
        shape = {name: getattr(config, name, None) for name in SHAPE}
    _require_some(ways)
    masked = any(verdict.proven for way, verdict in ways.items() if way.startswith("masked/"))
    prepared = prepare(folder, looked.pins, cast(Any, task), None, tell) if masked else None
    _require_unchanged(folder, looked.pins)
    return ModelProof(
        version=1,
        task=cast(Any, task),
        files=looked.pins,
        model_type=str(config.model_type),
        parameters=sum(tensor.numbers for tensor in looked.tensors.values()),
        bytes=sum(tensor.size for tensor in looked.tensors.values()),
        layers=looked.layers,
        positions=positions,
        vocabulary=rows,
        tokens=tokens,
        special=special_of(tokenizer),
        template=template_of(tokenizer),
        targets=targets,
        new=new,
        unused=unused,
        whole=run == folder,
        shape={k: v for k, v in {**shape, "num_hidden_layers": looked.layers}.items() if v is not None},
        ways=ways,
        prepared=prepared,
    )


def try_study(study: TryStudy, tell: Tell) -> None:
    """That the study can be frozen.

    Raises: `model.*`, or as a pass of its way does.
    """
    folder, task = Path(study.folder), study.task
    looked = _look(folder, task, tell)
    for name in sorted({*study.files, *looked.pins}):
        if looked.pins.get(name) != study.files.get(name):
            raise Refusal("model.file_changed", file=name)
    labels = tuple(f"label {number}" for number in range(study.labels)) or TWO_LABELS
    with _runnable(folder, looked, study.whole) as (run, _small):
        spec = replace_labels(_spec(looked.pins if run == folder else pin(run), task), labels)
        model, _, _ = build(run, spec)
        with refusing_what_transformers_cannot_read(run, spec):
            _, tokenizer, _ = configure(run, spec)
        tokens = require_tokenizer(run, tokenizer, embedding_rows(model))
        positions = usable_positions(model)
        if study.tokens > positions:
            raise Refusal("model.too_many_tokens", tokens=study.tokens, limit=positions)
        cut = study.cut if run == folder else 1
        tell(ChildProgress("passes", 0, 1, study.way))
        length = min(TOKENS, study.tokens)
        verdict = attempt(study.way, Trial(run, spec, study.adapter, cut, length, tokens))
    if not verdict.proven:
        raise Refusal(verdict.code, **verdict.facts)


def _usual_adapter(way: Way, trial: Trial) -> Adapter:
    match way.partition("/")[2]:
        case "prefix":
            return Prefix(2)
        case "spf":
            return Spf(25.0, 25.0)
    return trial.adapter


def _spec(pins: dict[str, str], task: str) -> ModelSpec:
    labels = {"sequence-classification": TWO_LABELS, "token-classification": labels_of(("x",))}.get(task, ())
    return ModelSpec(source="proof", task=cast(Any, task), files=pins, labels=labels, max_tokens=8)


def replace_labels(spec: ModelSpec, labels: tuple[str, ...]) -> ModelSpec:
    """A causal LM has none."""
    return spec if spec.task == "causal-lm" else msgspec.structs.replace(spec, labels=labels)


def _require_some(ways: dict[Way, Verdict]) -> None:
    """Raises: the first way's reason a model that no way can tune."""
    if not any(verdict.proven for verdict in ways.values()):
        first = ways["all_in_tee/lora"]
        raise Refusal("model.no_way", **{**first.facts, "cause": first.code})


def _require_unchanged(folder: Path, pins: dict[str, str]) -> None:
    """What was looked at is what is pinned.

    Raises: `model.file_changed`.
    """
    for name, sha in pin(folder).items():
        if pins.get(name) != sha:
            raise Refusal("model.file_changed", file=name)
