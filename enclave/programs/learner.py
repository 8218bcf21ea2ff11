"""What a client slice learns with: the pinned base model with its adapter, and the site's rows, in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from contracts.manifest import Lora, Manifest, ModelSpec, Prefix, Spf
from contracts.refusal import Refusal
from enclave.programs.contributions import Kind
from enclave.programs.mailbox import PADS, WEIGHTS
from enclave.programs.placements import Inside, Outside, Placement
from enclave.programs.program import Report
from enclave.programs.template import State
from enclave.slicing.adapters import adapt, freeze_a, load_tuned_state, tuned_state
from enclave.slicing.models import load
from enclave.slicing.placement import Shape
from enclave.slicing.prefix import tune_prefix, usable_tokens
from enclave.slicing.skeleton import open_cut
from enclave.training.data import Examples, encode, read_rows
from enclave.training.loop import (
    EVALUATION_BATCH,
    Batch,
    Progress,
    TrainResult,
    evaluate,
    round_batches,
    train,
)
from enclave.training.metrics import Scores
from enclave.training.private import train_privately

REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class Learner:
    """Model and data of one site for the life of a run. Every round starts from parameters that `start_from`
    has set, so that nothing of an abandoned round remains."""

    manifest: Manifest
    site: str
    model: Any
    initial: State
    training: Examples
    evaluation: Examples
    placement: Placement

    def start_from(self, state: State | None) -> None:
        """Set the tuned parameters; None means those of the manifest's seed. Refuses with `tensors.*`."""
        load_tuned_state(self.model, self.initial if state is None else state)

    def get_ready(self, round: int, kind: Kind, report: Report) -> None:
        """What the placement does before a round: it makes the pads of all its batches. Refuses with
        `slice.not_accelerated`."""
        coming = self.evaluation.evaluation_batches(EVALUATION_BATCH)
        shapes = [_shape(batch, backward=False) for batch in coming]
        if kind == "update":
            learnt = round_batches(self.training, self.manifest.training, round=round, site=self.site)
            shapes += [_shape(batch, backward=True) for batch in learnt]
        self.placement.begin(round, shapes, report)

    def evaluate(self, report: Report) -> Scores:
        """Score the present parameters on the site's evaluation split."""
        model = self.manifest.model
        labels = 0 if model.task == "causal-lm" else len(model.labels)
        precision = self.manifest.training.precision
        return evaluate(
            self.model, self.evaluation, labels=labels, precision=precision, progress=sparing(report)
        )

    def train(self, round: int, report: Report) -> tuple[TrainResult, State]:
        """Train one round on the site's rows; returns the tuned parameters."""
        privacy, settings = self.manifest.aggregation.privacy, self.manifest.training
        if privacy is not None and privacy.unit == "record":
            result = train_privately(self.model, self.training, settings, privacy, progress=sparing(report))
        else:
            result = train(
                self.model, self.training, settings, round=round, site=self.site, progress=sparing(report)
            )
        return result, tuned_state(self.model)


def load_learner(
    manifest: Manifest, site: str, model_folder: Path, dataset: Path, outside: Path | None = None
) -> Learner:
    """Read the base model (every file against its pinned hash) and the rows. For the placement `masked`,
    `outside` is the mailbox's folder, in which the accelerator finds the public int8 weights.

    Refuses with `model.*`, `slicing.*`, `masking.*`, `adapter.*`, `rows.*` or `slice.no_file`.
    """
    if not dataset.is_file():
        raise Refusal("slice.no_file")
    rows = read_rows(dataset, manifest.model)
    model, tokenizer, placement = _open(manifest, model_folder, outside)
    if manifest.aggregation.rule == "ffa-lora":
        freeze_a(model)
    return Learner(
        manifest=manifest,
        site=site,
        model=model,
        initial=tuned_state(model),
        training=encode(rows.train, tokenizer, manifest.model),
        evaluation=encode(rows.evaluation, tokenizer, manifest.model),
        placement=placement,
    )


def _open(
    manifest: Manifest, folder: Path, outside: Path | None
) -> tuple[Any, PreTrainedTokenizerBase, Placement]:
    """The model with its adapter, the tokenizer, and where the frozen layers are multiplied."""
    spec, adapter = manifest.model, manifest.adapter
    if manifest.masking is None:
        base, tokenizer = load(folder, spec)
        return _tuned(base, manifest), tokenizer, Inside(_model_bytes(folder, spec))
    if outside is None or isinstance(adapter, Spf):
        raise Refusal("manifest.invalid", fault="a client slice has no part in method-2")
    opened = open_cut(folder, spec, adapter, manifest.training.seed, outside / WEIGHTS)
    placement = Outside(opened.cut, manifest.masking, outside / PADS, _model_bytes(folder, spec))
    return opened.cut.model, opened.tokenizer, placement


def _shape(batch: Batch, *, backward: bool) -> Shape:
    rows, tokens = batch.inputs["input_ids"].shape
    return Shape(rows, tokens, backward)


def _model_bytes(folder: Path, spec: ModelSpec) -> int:
    return sum((folder / name).stat().st_size for name in spec.files if name.endswith(".safetensors"))


def _tuned(base: PreTrainedModel, manifest: Manifest) -> Any:
    adapter, seed = manifest.adapter, manifest.training.seed
    if isinstance(adapter, Lora):
        return adapt(base, adapter, seed)
    if isinstance(adapter, Prefix):
        usable_tokens(base, adapter, manifest.model.max_tokens)
        return tune_prefix(base, adapter, seed)
    raise Refusal("manifest.invalid", fault="a client slice has no part in method-2")


def sparing(report: Report) -> Any:
    """Pass a step's progress on: its beginning, its end, and at most every REPORT_SECONDS between."""
    last = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if progress.rows < progress.total and now - last < REPORT_SECONDS:
            return
        last = now
        report(
            {
                "stage": progress.stage,
                "done": progress.rows,
                "of": progress.total,
                "rows_per_second": round(progress.rows_per_second, 2),
            }
        )

    return tell
