"""What Method 2 learns: `python -m benchmarks.split_learning --data ../shared/datasets`.

For every data set and seed, on the same rows, rounds and test rows of three hospitals:

- `federated`: plaintext federated LoRA on the whole model, which Method 2 has to reach;
- `spf`: the tail after layer k over all hospitals' cached features in pooled batches, SPF at each ratio (of
  heads and of dense rows alike, or of each: `--ratios 25:50,50:25`) with LoRA on the attention output.

Per data set and point: accuracy and macro-F1 on the pooled test rows (95 % confidence intervals over seeds,
Student's t), the median seconds of a training step, trained parameters and AdamW's bytes. Features are
computed once per data set, seed and k, and read by every ratio. Public data only: nothing here is protected.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.fedavg import fedavg
from benchmarks.hospitals import hospitals, label_names
from benchmarks.learning import Study, study
from contracts.architecture.spf_size import size_of
from contracts.manifest import Lora, ModelSpec, Spf, Training
from enclave.slicing import models
from enclave.slicing.adapters import load_tuned_state, tuned_state
from enclave.slicing.spf import optimizer_bytes, tune
from enclave.slicing.split import Front, Tail
from enclave.training import rates
from enclave.training.data import Examples
from enclave.training.features import FeatureSet, Layout, layout_of
from enclave.training.loop import MAX_GRADIENT_NORM, derive_seed, train
from enclave.training.metrics import Scores
from enclave_host import base_models
from enclave_host.pinning import pin
from site_agent.methods.shard_making import compute

DATASETS = ("chemprot", "medquad-qtype", "msha-injury", "mts-dialog", "nhs-feedback")
RATIOS = "12.5,25,50,62.5,100"
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t for a two-sided 95 % interval, by the number of seeds."""


@dataclass(frozen=True)
class Ratio:
    """Per cent of the heads and of the dense rows that are tuned."""

    attention: float
    dense: float

    @classmethod
    def read(cls, text: str) -> Ratio:
        """`25` for both, `25:50` for heads and rows apart."""
        attention, _, dense = text.partition(":")
        return cls(float(attention), float(dense or attention))

    def __str__(self) -> str:
        return f"{self.attention:g}" + f":{self.dense:g}" * (self.dense != self.attention)


@dataclass(frozen=True)
class Found:
    """One training: scores are shares between 0 and 1; `step` is the median seconds of a training step."""

    accuracy: float
    macro_f1: float
    seconds: float
    step: float
    parameters: int
    optimizer: int


def federated(shared: Study) -> Found:
    """FedAvg of LoRA and head on the whole model, as the enclaves of Method 1 do it."""
    training, model, started = shared.training, shared.fresh(), time.monotonic()
    state, steps = tuned_state(model), []
    for number in range(1, training.rounds + 1):
        updates = []
        for site, examples in shared.sites.items():
            load_tuned_state(model, state)
            done = train(model, examples, training, round=number, site=site)
            steps.append(
                done.seconds / (training.local_epochs * math.ceil(len(examples) / training.batch_size))
            )
            updates.append((done.samples, tuned_state(model)))
        state = fedavg(updates)
    load_tuned_state(model, state)
    seconds = time.monotonic() - started
    trained = sum(tensor.size for tensor in state.values())
    return _found(shared.scores(model), seconds, steps, trained, 8 * trained + 4 * len(state))


@dataclass(frozen=True)
class Cached:
    """All hospitals' features behind layer `k`, and the whole model to take tails from."""

    k: int
    base: Any
    train: FeatureSet
    test: FeatureSet


def cached(shared: Study, k: int) -> Cached:
    """Compute every hospital's features once."""
    base, _ = models.load(shared.folder, shared.model)
    front, layout = Front(copy.deepcopy(base), k), layout_of(shared.model, base.config, k, "0" * 64)
    return Cached(
        k,
        base,
        _features(front, shared.sites.values(), layout),
        _features(front, shared.tests.values(), layout),
    )


def _features(front: Front, all_examples: Any, layout: Layout) -> FeatureSet:
    return FeatureSet([_shard(front, examples) for examples in all_examples], layout)


def _shard(front: Front, examples: Examples) -> Any:
    return compute(front, examples, range(len(examples)), 32)


def split(shared: Study, features: Cached, spf: Spf, training: Training) -> Found:
    """Train a tail on pooled batches of cached features."""
    tail = Tail(copy.deepcopy(features.base), features.k)
    tune(tail, spf, training.seed)
    started, steps, state_bytes = time.monotonic(), [], 0
    for number in range(1, training.rounds + 1):
        taken, state_bytes = _round(tail, features.train, training, number)
        steps += taken
    seconds = time.monotonic() - started
    counted = size_of(features.base.config, spf, features.k, len(shared.model.labels))
    scores = _evaluate(tail, features.test, len(shared.model.labels))
    return _found(scores, seconds, steps, counted.parameters, state_bytes)


def _round(tail: Tail, rows: FeatureSet, training: Training, number: int) -> tuple[list[float], int]:
    """One round over all rows, with a fresh AdamW: seconds of each step, bytes of optimizer state."""
    seed = derive_seed(training.seed, number, "pooled")
    parameters = [parameter for parameter in tail.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.0)
    shuffle, steps = random.Random(seed), []
    tail.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(training.local_epochs):
            for batch in rows.training_batches(training.batch_size, shuffle):
                started = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=training.precision == "bf16"):
                    logits = tail(batch.features, batch.attention_mask).logits
                cross_entropy(logits.float(), batch.targets).backward()
                nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
                optimizer.step()
                optimizer.zero_grad()
                steps.append(time.perf_counter() - started)
    return steps, optimizer_bytes(optimizer)


def _evaluate(tail: Tail, rows: FeatureSet, labels: int) -> Scores:
    confusion, loss = torch.zeros(labels * labels, dtype=torch.long), 0.0
    tail.eval()
    with torch.inference_mode():
        for batch in rows.evaluation_batches(64):
            logits = tail(batch.features, batch.attention_mask).logits
            guesses = logits.argmax(-1)
            loss += float(cross_entropy(logits, batch.targets, reduction="sum"))
            confusion += torch.bincount(batch.targets * labels + guesses, minlength=labels * labels)
    table = confusion.view(labels, labels)
    return Scores(len(rows), len(rows), int(table.trace()), loss, tuple(map(tuple, table.tolist())))


def _found(scores: Scores, seconds: float, steps: Sequence[float], parameters: int, optimizer: int) -> Found:
    return Found(
        rates.accuracy(scores),
        rates.macro_f1(scores),
        seconds,
        statistics.median(steps),
        parameters,
        optimizer,
    )


def interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % confidence interval of the mean; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    return T95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))


def measure(options: argparse.Namespace, data: str) -> Iterator[dict[str, Any]]:
    """All points of one data set, all seeds; one dictionary a point."""
    found: dict[tuple[Ratio | None, int, str], list[Found]] = {}
    for seed in map(int, options.seeds.split(",")):
        shared = _study(options, data, seed)
        if options.federated:
            found.setdefault((None, 0, ""), []).append(federated(shared))
            _say(data, seed, "federated", found[None, 0, ""][-1])
        training = _replace(shared.training, options.spf_learning_rate)
        for k in map(int, options.cuts.split(",")):
            features = cached(shared, k)
            for select in options.selects.split(","):
                for ratio in map(Ratio.read, options.ratios.split(",")):
                    spf = Spf(
                        ratio.attention, ratio.dense, select=select, rank=options.rank, alpha=options.alpha
                    )
                    point = split(shared, features, spf, training)
                    found.setdefault((ratio, k, select), []).append(point)
                    _say(data, seed, f"k {k} {select} {ratio} %", point)
    base = [run.accuracy for run in found.get((None, 0, ""), [])]
    for (ratio, k, select), runs in found.items():
        accuracy = [run.accuracy for run in runs]
        margin = [mine - theirs for mine, theirs in zip(accuracy, base, strict=False)]
        yield {
            "data": data, "ratio": ratio, "k": k, "select": select, "seeds": len(runs),
            "accuracy": statistics.fmean(accuracy), "accuracy_ci": interval(accuracy), "each": accuracy,
            "margin": statistics.fmean(margin) if margin else None, "margin_ci": interval(margin),
            "macro_f1": statistics.fmean(run.macro_f1 for run in runs),
            "macro_f1_ci": interval([run.macro_f1 for run in runs]),
            "step": statistics.median(run.step for run in runs),
            "seconds": statistics.fmean(run.seconds for run in runs),
            "parameters": runs[0].parameters, "optimizer": runs[0].optimizer,
        }  # fmt: skip


def lines(point: dict[str, Any], shared: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A point as figures. The goal: Method 2 at some ratio reaches federated LoRA (a margin of 0)."""
    config = {key: point[key] for key in ("data", "k", "select", "seeds", "parameters", "optimizer")} | shared
    share = point["ratio"]
    config |= {"ratio": share and str(share), "strategy": "federated" if share is None else "spf"}
    config["each"] = [round(100 * value, 2) for value in point["each"]]

    def line(name: str, value: float, unit: str, better: str, ci: float | None = None) -> dict[str, Any]:
        more = {} if ci is None else {"ci95": round(ci, 2)}
        return {
            "figure": f"split_learning.{name}", "value": round(value, 4), "unit": unit,
            "goal": None, "better": better, "config": {**config, **more},
        }  # fmt: skip

    yield line("accuracy", 100 * point["accuracy"], "%", "higher", 100 * point["accuracy_ci"])
    yield line("macro_f1", 100 * point["macro_f1"], "%", "higher", 100 * point["macro_f1_ci"])
    yield line("step", 1000 * point["step"], "ms", "lower")
    if point["ratio"] is not None and point["margin"] is not None:
        yield line("margin", 100 * point["margin"], "points", "higher", 100 * point["margin_ci"])


def best(points: Sequence[dict[str, Any]], shared: dict[str, Any]) -> dict[str, Any]:
    """The figure with the goal: the margin of the best ratio of a data set over federated LoRA."""
    top = max((p for p in points if p["ratio"] is not None), key=lambda p: p["accuracy"])
    return {
        "figure": "split_learning.best_margin", "value": round(100 * top["margin"], 2), "unit": "points",
        "goal": 0.0, "better": "higher",
        "config": {
            "data": top["data"], "ratio": str(top["ratio"]), "k": top["k"],
            "ci95": round(100 * top["margin_ci"], 2), **shared,
        },
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, measure every data set, print the lines as they come and then the table."""
    options = _options(arguments)
    torch.set_num_threads(1)
    shared = {
        key: value for key, value in vars(options).items()
        if key in ("rows_per_site", "test_rows_per_site", "rounds", "batch_size", "learning_rate",
                   "spf_learning_rate", "rank", "max_tokens", "precision")
    }  # fmt: skip
    every = []
    for data in options.datasets.split(","):
        points = list(measure(options, data))
        every += points
        for point in points:
            for found in lines(point, shared):
                print(json.dumps(found), flush=True)
        if options.federated:
            print(json.dumps(best(points, shared)), flush=True)
    _table(every)
    return 0


def _study(options: argparse.Namespace, data: str, seed: int) -> Study:
    sites = hospitals(
        options.data / data, rows=options.rows_per_site, test_rows=options.test_rows_per_site, seed=seed
    )
    folder = base_models.resolve(options.model)
    spec = ModelSpec(
        options.model, "sequence-classification", pin(folder), label_names(sites), options.max_tokens
    )
    training = Training(
        options.rounds, 1, options.batch_size, options.learning_rate, seed, precision=options.precision
    )
    targets = tuple(options.targets.split(","))
    return study(sites, spec, Lora(options.rank, options.alpha, targets), training, folder)


def _replace(training: Training, learning_rate: float) -> Training:
    return Training(
        training.rounds, 1, training.batch_size, learning_rate, training.seed, precision=training.precision
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.split_learning", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/datasets"), help="folder of data sets")
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--model", default=base_models.EMBEDDED)
    parser.add_argument("--ratios", default=RATIOS, help="percent, comma-separated; 25:50 for heads:dense")
    parser.add_argument("--cuts", default="3", help="k, comma-separated")
    parser.add_argument("--selects", default="largest", help="of largest,smallest,random")
    parser.add_argument("--no-federated", dest="federated", action="store_false")
    parser.add_argument("--rows-per-site", type=int, default=100)
    parser.add_argument("--test-rows-per-site", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of federated LoRA")
    parser.add_argument("--spf-learning-rate", type=float, default=5e-4)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--targets", default="query,key,value,dense", help="of federated LoRA")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated, ten at most")
    return parser.parse_args(arguments)


def _say(data: str, seed: int, point: str, found: Found) -> None:
    print(
        f"{data} seed {seed} {point}: {100 * found.accuracy:.1f} % in {found.seconds:.0f} s, "
        f"{1000 * found.step:.0f} ms a step",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def _table(points: Sequence[dict[str, Any]]) -> None:
    print(
        f"\n{'data':<15}{'strategy':<22}{'accuracy':>9}  {'±':>4}{'margin':>8}  {'±':>4}{'macro-F1':>9}"
        f"{'step ms':>9}{'parameters':>12}{'AdamW MB':>10}"
    )
    for p in points:
        name = "federated LoRA"
        if p["ratio"] is not None:
            name = f"SPF {p['ratio']} %, k {p['k']}" + f", {p['select']}" * (p["select"] != "largest")
        shown = p["ratio"] is not None and p["margin"] is not None
        margin = f"{100 * p['margin']:8.1f}  {100 * p['margin_ci']:4.1f}" if shown else " " * 14
        print(
            f"{p['data']:<15}{name:<22}{100 * p['accuracy']:9.1f}  {100 * p['accuracy_ci']:4.1f}{margin}"
            f"{100 * p['macro_f1']:9.1f}{1000 * p['step']:9.1f}{p['parameters']:12,}"
            f"{p['optimizer'] / 1e6:10.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
