"""What a plan costs, worked out from the model's configuration before anything is built.

Counts of trained parameters and of bytes on the wire are exact or upper bounds. Memory is worked out from
shapes, the program itself included (federation/studies/memory.py). Time is never guessed from shapes alone:
it needs earlier runs of the same kind on this installation, and is None where there are none. Knows no
tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from types import SimpleNamespace
from typing import Any

from contracts.architecture.layers import linears_of
from contracts.manifest import Manifest, PublicFront, Split
from contracts.refusal import Refusal
from enclave_jobs.runs.models import Run, RunState
from enclave_jobs.runs.pad_costs import PadCosts, pad_costs
from federation.datasets.models import Dataset
from federation.datasets.queries import all_labels
from federation.frozen import frozen
from federation.studies import methods
from federation.studies.base_models import base_model_of
from federation.studies.models import BaseModel
from federation.studies.passes import ScoringWork, examples_of, operations, scored_by
from federation.studies.plan import Plan
from federation.studies.workload import (
    FLOAT,
    HALF,
    Workload,
    answering_weights,
    layer_weights,
    trained_parameters,
)


@dataclass(frozen=True)
class Costs:
    """Bytes, but for `trained` and `parameters` (numbers of weights) and `seconds`. `tee` is the memory of
    the largest enclave, `host` that of the site's own process or accelerator beside it, `kept` its features
    on disk; `up` and `down` are of the largest site over the whole run; `pads` are a masked study's."""

    parameters: int
    trained: int
    optimizer: int
    tee: int
    host: int
    kept: int
    up: int
    down: int
    operations: float
    seconds: float | None = None
    measured_runs: int = 0
    pads: PadCosts | None = None

    @property
    def fraction(self) -> float:
        """Trained parameters as a part of the model's."""
        return self.trained / max(1, self.parameters)


def work_of(manifest: Manifest) -> Workload:
    """The costs' inputs as a manifest states them."""
    training = manifest.training
    return Workload(
        method=manifest.method,
        placement=manifest.placement,
        runtime=manifest.runtime,
        adapter=manifest.adapter,
        cut=_cut(manifest.split, manifest.front),
        checkpointing=bool((manifest.split and manifest.split.checkpointing) or training.activations),
        labels=len(manifest.model.labels),
        tags=manifest.model.task == "token-classification",
        tokens=manifest.model.max_tokens,
        batch=training.batch_size,
        rounds=training.rounds,
        epochs=training.local_epochs,
        rows=tuple(site.dataset.rows for site in manifest.sites),
        at_once=training.at_once or 0,
        passes=ScoringWork(
            examples=examples_of(manifest.sites[0].dataset.kind),
            written_rows=manifest.publication.written_rows,
            written_tokens=manifest.publication.written_tokens,
            packing=manifest.training.packing or 0,
        ),
    )


def _cut(split: Split | None, front: PublicFront | None) -> int:
    if split is not None:
        return split.cut
    return 0 if front is None else front.first


def _classes(plan: Plan, datasets: Sequence[Dataset]) -> int:
    """Two at least, also before datasets are chosen."""
    labels = len(set(all_labels(datasets)) - set(plan.same_labels))
    return max(2, labels if plan.task == "sequence-classification" else 2 * labels + 1)


def work_of_plan(plan: Plan, datasets: Sequence[Dataset]) -> Workload:
    """The costs' inputs of a draft.

    Raises: `study.unknown_model` or `study.bad_targets`.
    """
    method = methods.named(plan.method)
    split = method.split(plan, len(datasets))
    return Workload(
        method=plan.method,
        placement=plan.placement,
        runtime=plan.runtime,
        adapter=method.adapter(plan),
        cut=_cut(split, method.front(plan)),
        checkpointing=bool(split and split.checkpointing) or method.computes_again(plan),
        labels=_classes(plan, datasets) if plan.task != "causal-lm" else 0,
        tags=plan.task == "token-classification",
        tokens=plan.max_tokens,
        batch=plan.batch_size,
        rounds=plan.rounds,
        epochs=plan.local_epochs,
        rows=tuple(dataset.rows for dataset in datasets),
        at_once=plan.at_once,
        passes=ScoringWork(
            scored=scored_by(datasets),
            examples=max((examples_of(dataset.kind) for dataset in datasets), default=1),
            written_rows=plan.written_rows,
            written_tokens=plan.written_tokens if plan.written_rows else 0,
            packing=plan.packing,
        ),
    )


def costs_of(plan: Plan, datasets: Sequence[Dataset]) -> Costs | None:
    """What a draft would cost; None where the model's configuration is not known.

    Raises: as `estimate`.
    """
    work = work_of_plan(plan, datasets)
    return estimate(work, base_model_of(plan))


def estimate(work: Workload, model: BaseModel) -> Costs | None:
    """What this work costs with this model; None where the model's configuration is not known.

    Raises: `split.bad_cut`, `spf.nothing` or `slicing.unknown_architecture`.
    """
    costs = counted(work, model)
    if costs is None:
        return None
    seconds, runs = _expected(work, costs.operations)
    return replace(costs, seconds=seconds, measured_runs=runs)


def counted(work: Workload, model: BaseModel) -> Costs | None:
    """As `estimate`, without the time, for which earlier runs must be looked at."""
    if not model.config:
        return None
    config = SimpleNamespace(**model.config)
    parameters, work = model.parameters or 0, replace(work, held=scored_bytes(model))
    trained, tensors = trained_parameters(config, work)
    tee, host = methods.named(work.method).memory(config, parameters, work, trained)
    up, down = methods.named(work.method).traffic(config, work, trained)
    return Costs(
        parameters=parameters,
        trained=trained,
        optimizer=8 * trained + FLOAT * tensors,
        tee=tee,
        host=host,
        kept=methods.named(work.method).kept(config, work),
        up=up,
        down=down,
        operations=_operations(config, work, trained),
        pads=pad_costs(config, work),
    )


def scored_bytes(model: BaseModel) -> int:
    """Of a number in the model's files: those that are made of halves stay so."""
    counted, parameters = model.proof.get("bytes", 0), model.proof.get("parameters", 0)
    return HALF if 0 < counted < 3 * parameters else FLOAT


def tunable(model: BaseModel) -> dict[str, list[str]]:
    """What LoRA can be put on in each layer of the model: a target -> the linears that it names, by suffix as
    peft takes it. Empty where the model's shape is not known."""
    if not model.config:
        return {}
    try:
        paths = [linear.path for linear in linears_of(SimpleNamespace(**model.config))]
    except Refusal:
        return {}
    return {
        target: [path for path in paths if path == target or path.endswith(f".{target}")] for target in paths
    }


def _operations(config: Any, work: Workload, trained: int) -> float:
    """Multiplications and additions on the way that decides the time."""
    weights = (config.num_hidden_layers - work.cut) * layer_weights(config)
    answering = answering_weights(config, work)
    return operations(work, weights, trained, methods.named(work.method).rows_in_turn, answering)


def _expected(work: Workload, operations: float) -> tuple[float | None, int]:
    """Seconds, by the median speed of finished runs of the same method, placement and runtime here."""
    speeds = []
    finished = Run.objects.filter(state=RunState.FINISHED).order_by("-created_at")
    models = {(model.source, model.task): model for model in BaseModel.objects.all()}
    for run in finished[:50]:
        manifest = frozen(run).manifest
        if manifest is None:
            continue  # of an older version of FedSlice
        if _kind(work_of(manifest)) != _kind(work):
            continue
        model = models.get((manifest.model.source, manifest.model.task))
        seconds = run.summary.get("seconds")
        if model is None or not model.config or not seconds:
            continue
        config, done = SimpleNamespace(**model.config), work_of(manifest)
        speeds.append(_operations(config, done, trained_parameters(config, done)[0]) / seconds)
    if not speeds:
        return None, 0
    return operations / median(speeds), len(speeds)


def _kind(work: Workload) -> tuple[str, str, str]:
    return work.method, work.placement, work.runtime


@dataclass(frozen=True)
class Advice:
    """Where to cut. `least` is the smallest cut whose tail fits the TEE, `most` the largest whose front fits
    the sites; `cut` is what we would take, None where nothing fits."""

    cut: int | None
    least: int | None
    most: int | None


def advise_cut(work: Workload, model: BaseModel, tee: int, site: int) -> Advice | None:
    """The smallest cut that fits both: the more layers train in the TEE, the more can be learned. `tee` and
    `site` are bytes of memory. None where the model's configuration is not known."""
    if not model.config:
        return None
    config = SimpleNamespace(**model.config)
    fits_tee, fits_site = [], []
    for cut in range(1, config.num_hidden_layers):
        here = replace(work, cut=cut, held=scored_bytes(model))
        trained, parameters = trained_parameters(config, here)[0], model.parameters or 0
        inside, outside = methods.named(work.method).memory(config, parameters, here, trained)
        if inside <= tee:
            fits_tee.append(cut)
        if outside <= site:
            fits_site.append(cut)
    both = [cut for cut in fits_tee if cut in fits_site]
    return Advice(min(both, default=None), min(fits_tee, default=None), max(fits_site, default=None))
