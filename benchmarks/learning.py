"""What learning together is worth: `python -m benchmarks.learning --data ../shared/datasets/medquad-qtype`.

Four strategies with the same rows, the same number of passes over them and the same training code, all
measured on the same pooled test rows:

- `local`: every hospital trains alone; the mean of their models' scores.
- `federated`: what the enclaves do (FedAvg of LoRA and head by sample count), in one process, in the clear.
- `centralised`: one model on all rows, which no hospital would allow.
- `dp-site`, `dp-record` (not by default): `federated` with the noise that a manifest's `privacy` adds, per
  site in the mean or per record in each step. Not the same twice: the noise is no seed's.
- `head`: FedAvg of a linear head on the frozen encoder's mean over tokens, with a learning rate of its own.

Public data only: nothing here is protected. `baselines` is for the demo.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fedavg import fedavg
from benchmarks.hospitals import hospitals, label_names, read_site
from contracts.manifest import Lora, ModelSpec, Privacy, Training
from contracts.progress import Progress
from enclave.programs.publication import pool
from enclave.slicing import models
from enclave.slicing.adapters import adapt, load_tuned_state, tuned_state
from enclave.training import rates
from enclave.training.clipping import clip
from enclave.training.data import Examples
from enclave.training.loop import evaluate, train
from enclave.training.metrics import Scores
from enclave.training.noise import gaussian, site_deviation
from enclave.training.private import train_privately
from enclave.training.row_reader import SiteRows, encode, read_rows
from enclave_host import base_models
from enclave_host.pinning import pin
from privacy_accounting.epsilon import epsilon, planned

Tell = Callable[[str, Progress], None]
STRATEGIES = ("local", "federated", "centralised", "head")
NOISY: dict[str, Literal["site", "record"]] = {"dp-site": "site", "dp-record": "record"}
HEAD_LEARNING_RATE = 0.2
"""The best of 0.001 to 1.0 for the head (docs/results.md), so that it is no straw man."""


class LinearHead(nn.Module):
    """A frozen encoder, the mean over the tokens that the mask keeps, one linear layer: (batch, labels)."""

    def __init__(self, encoder: Any, labels: int, seed: int) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(encoder.config.hidden_size, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """(batch, tokens) twice -> an object with `logits`."""
        with torch.no_grad():
            hidden = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return SimpleNamespace(logits=self.head((hidden * kept).sum(1) / kept.sum(1)))


def summary(scores: Scores) -> dict[str, float | int]:
    """The exact numbers, for benchmarks: an enclave tells coarser ones (enclave/programs/publication.py)."""
    if scores.confusion:
        reported = {"accuracy": rates.accuracy(scores), "macro_f1": rates.macro_f1(scores)}
        return {**reported, "loss": rates.loss(scores), "rows": scores.rows}
    return {
        "token_accuracy": rates.accuracy(scores),
        "exact_match": rates.fraction(scores, scores.exact),
        "stop_rate": rates.fraction(scores, scores.ended),
        "perplexity": math.exp(rates.loss(scores)) if rates.loss(scores) < 700 else math.inf,
        "loss": rates.loss(scores),
        "tokens": scores.predictions,
        "rows": scores.rows,
    }


@dataclass(frozen=True)
class Study:
    """All that the strategies share. `sites` are tokenised training rows in site-id order, `tests` each
    site's test rows; scores are pooled over all of them."""

    folder: Path
    model: ModelSpec
    adapter: Lora
    training: Training
    sites: Mapping[str, Examples]
    tests: Mapping[str, Examples]
    tell: Tell | None = None
    head_learning_rate: float = HEAD_LEARNING_RATE
    noise: float = 1.0
    clip: float = 1.0
    delta: float = 1e-5

    def fresh(self, head_only: bool = False) -> nn.Module:
        """The base model with initial adapters, or frozen under a new linear head."""
        base, _ = models.load(self.folder, self.model)
        if not head_only:
            return adapt(base, self.adapter, self.training.seed)
        return LinearHead(base.base_model, len(self.model.labels), self.training.seed)

    def scores(self, model: nn.Module) -> Scores:
        """Pooled over all sites' test rows."""
        labels = len(self.model.labels) if self.model.task == "sequence-classification" else 0
        each = [
            evaluate(model, examples, labels=labels, precision=self.training.precision)
            for examples in self.tests.values()
        ]
        return pool(each)

    def report(self, name: str) -> Callable[[Progress], None] | None:
        """A progress callback that says who is training."""
        if self.tell is None:
            return None
        tell = self.tell
        return lambda progress: tell(name, progress)


def study(
    sites: Mapping[str, SiteRows],
    model: ModelSpec,
    adapter: Lora,
    training: Training,
    folder: Path,
    tell: Tell | None = None,
) -> Study:
    """Tokenise the sites' rows once."""
    _, tokenizer = models.load(folder, model)
    return Study(
        folder,
        model,
        adapter,
        training,
        {site: encode(sites[site].train, tokenizer, model) for site in sorted(sites)},
        {site: encode(sites[site].test, tokenizer, model) for site in sorted(sites)},
        tell,
    )


def federated(study: Study, *, head_only: bool = False) -> list[Scores]:
    """FedAvg exactly as client slices and aggregator do it; the pooled scores after every round."""
    training = study.training
    if head_only:
        training = msgspec.structs.replace(training, learning_rate=study.head_learning_rate)
    model = study.fresh(head_only)
    state, curve = tuned_state(model), []
    for number in range(1, training.rounds + 1):
        updates = []
        for site, examples in study.sites.items():
            load_tuned_state(model, state)
            name = f"{'head' if head_only else 'federated'} round {number} {site}"
            result = train(model, examples, training, round=number, site=site, progress=study.report(name))
            updates.append((result.samples, tuned_state(model)))
        state = fedavg(updates)
        load_tuned_state(model, state)
        curve.append(study.scores(model))
    return curve


def noisy(study: Study, unit: Literal["site", "record"]) -> tuple[list[Scores], float]:
    """`federated` with noise per site (DP-FedAvg) or per record (DP-SGD at each site), as enclaves add it.

    The pooled scores after every round, and epsilon after the last (of the worst site).
    """
    training, model = study.training, study.fresh()
    bound = study.clip if unit == "record" else None
    privacy = Privacy(unit, study.noise, study.delta, bound)
    state, curve = tuned_state(model), []
    for number in range(1, training.rounds + 1):
        updates = []
        for site, examples in study.sites.items():
            load_tuned_state(model, state)
            reported = study.report(f"dp-{unit} round {number} {site}")
            if unit == "record":
                result = train_privately(model, examples, training, privacy, progress=reported)
                updates.append((result.samples, tuned_state(model)))
            else:
                result = train(model, examples, training, round=number, site=site, progress=reported)
                updates.append((result.samples, clip(tuned_state(model), state, study.clip)[0]))
        mean = fedavg(updates)
        if unit == "site":
            deviation = site_deviation(study.noise, study.clip, [samples for samples, _ in updates])
            mean = {name: tensor + gaussian(tensor.shape, deviation) for name, tensor in mean.items()}
        state = {name: tensor.astype(np.float32) for name, tensor in mean.items()}
        load_tuned_state(model, state)
        curve.append(study.scores(model))
    worst = max(
        epsilon(planned(privacy, training, len(rows)), privacy.delta) for rows in study.sites.values()
    )
    return curve, worst


def alone(study: Study, site: str, examples: Examples) -> Scores:
    """One model on these rows, with as many passes over them as the federated one makes in all rounds."""
    passes = study.training.rounds * study.training.local_epochs
    training = msgspec.structs.replace(study.training, local_epochs=passes)
    model = study.fresh()
    train(model, examples, training, round=1, site=site, progress=study.report(site))
    return study.scores(model)


def local_only(study: Study) -> dict[str, Scores]:
    """Every site's own model, on the pooled test rows."""
    return {site: alone(study, site, examples) for site, examples in study.sites.items()}


def centralised(study: Study) -> Scores:
    """One model on all sites' rows together."""
    sites = list(study.sites.values())
    joined = Examples(
        [tokens for site in sites for tokens in site.tokens],
        [target for site in sites for target in site.targets],  # type: ignore[arg-type]  # all of one kind
        sites[0].padding,
    )
    return alone(study, "centralised", joined)


def baselines(
    files: Mapping[str, Path],
    model: ModelSpec,
    adapter: Lora,
    training: Training,
    folder: Path,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Local-only and centralised scores for a run's own files (site id -> normalised JSONL) and settings.

    Returns {"local": {site: summary}, "centralised": summary, "accuracy_local_mean", "accuracy_centralised",
    "seconds", "seconds_centralised"}; accuracies are shares between 0 and 1.
    """
    started = time.monotonic()
    rows = {site: read_rows(file, model, "text-label") for site, file in files.items()}
    shared = study(rows, model, adapter, training, folder, tell)
    local = local_only(shared)
    alone = time.monotonic()
    together = centralised(shared)
    return {
        "local": {site: summary(scores) for site, scores in local.items()},
        "centralised": summary(together),
        "accuracy_local_mean": statistics.fmean(rates.accuracy(scores) for scores in local.values()),
        "accuracy_centralised": rates.accuracy(together),
        "seconds": round(time.monotonic() - started, 1),
        "seconds_centralised": round(time.monotonic() - alone, 1),
    }


def measure(study: Study, strategies: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Strategy -> {"accuracy", "macro_f1", "loss", "seconds", "detail"} for one seed."""
    found: dict[str, dict[str, Any]] = {}
    for strategy in strategies:
        started = time.monotonic()
        detail: dict[str, Any] = {}
        if strategy == "local":
            each = local_only(study)
            detail = {site: round(rates.accuracy(scores), 4) for site, scores in each.items()}
            numbers = {
                key: statistics.fmean(summary(scores)[key] for scores in each.values())
                for key in ("accuracy", "macro_f1", "loss")
            }
        else:
            if strategy == "centralised":
                final = centralised(study)
            elif strategy in NOISY:
                curve, spent = noisy(study, NOISY[strategy])
                detail = {"rounds": [round(rates.accuracy(scores), 4) for scores in curve], "epsilon": spent}
                final = curve[-1]
            else:
                curve = federated(study, head_only=strategy == "head")
                detail, final = {"rounds": [round(rates.accuracy(scores), 4) for scores in curve]}, curve[-1]
            numbers = {key: summary(final)[key] for key in ("accuracy", "macro_f1", "loss")}
        found[strategy] = {**numbers, "seconds": time.monotonic() - started, "detail": detail}
    return found


def figures(results: Sequence[dict[str, dict[str, Any]]], config: dict[str, Any]) -> list[dict[str, Any]]:
    """One line a figure: means over the seeds, in percent and points, with what we want them to reach."""
    lines = []

    def add(name: str, values: list[float], unit: str, better: str, goal: float | None) -> None:
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        lines.append(
            {
                "figure": name,
                "value": round(statistics.fmean(values), 2),
                "unit": unit,
                "goal": goal,
                "better": better,
                "config": {**config, "deviation": round(spread, 2), "each": [round(v, 2) for v in values]},
            }
        )

    for strategy in results[0]:
        for score in ("accuracy", "macro_f1"):
            add(
                f"learning.{score}.{strategy}",
                [100 * result[strategy][score] for result in results],
                "%",
                "higher",
                None,
            )
        add(
            f"learning.seconds.{strategy}",
            [result[strategy]["seconds"] for result in results],
            "s",
            "lower",
            None,
        )
    for other, goal in (("local", 5.0), ("head", 3.0), ("centralised", -5.0)):
        if "federated" in results[0] and other in results[0]:
            margin = [100 * (r["federated"]["accuracy"] - r[other]["accuracy"]) for r in results]
            add(f"learning.margin.federated_over_{other}", margin, "points", "higher", goal)
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, measure every seed, print the lines and then the table."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    folder, results = base_models.resolve(options.model), []
    adapter = Lora(options.rank, options.alpha, tuple(options.targets.split(",")))
    for seed in map(int, options.seeds.split(",")):
        sites = _sites(options, seed)
        model = ModelSpec(
            source=options.model,
            task="sequence-classification",
            files=pin(folder),
            labels=label_names(sites),
            max_tokens=options.max_tokens,
        )
        training = Training(
            rounds=options.rounds,
            local_epochs=options.local_epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            seed=seed,
            precision=options.precision,
        )
        shared = replace(
            study(sites, model, adapter, training, folder),
            head_learning_rate=options.head_learning_rate,
            noise=options.noise,
            clip=options.clip,
            delta=options.delta,
        )
        results.append(measure(shared, options.strategies.split(",")))
        print(f"seed {seed}: {json.dumps(results[-1])}", file=sys.stderr, flush=True)
    config = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    lines = figures(results, config)
    for line in lines:
        print(json.dumps(line), flush=True)
    if not options.json:
        _table(lines)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.learning", description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/datasets/medquad-qtype"),
        help="folder with train.jsonl.gz and test.jsonl.gz, or with a normalised <site>.jsonl a site",
    )
    parser.add_argument("--model", default=base_models.EMBEDDED)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--rows-per-site", type=int, default=500)
    parser.add_argument("--test-rows-per-site", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--local-epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--head-learning-rate", type=float, default=HEAD_LEARNING_RATE)
    parser.add_argument("--noise", type=float, default=1.0, help="dp-*: in sensitivities")
    parser.add_argument(
        "--clip", type=float, default=1.0, help="dp-*: L2 norm of a site's change or a gradient"
    )
    parser.add_argument("--delta", type=float, default=1e-5, help="dp-*: of epsilon")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--targets", default="query,key,value,dense")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="lines only, no table")
    return parser.parse_args(arguments)  # fmt: skip


def _sites(options: argparse.Namespace, seed: int) -> dict[str, SiteRows]:
    if (options.data / "train.jsonl.gz").is_file():
        return hospitals(
            options.data, rows=options.rows_per_site, test_rows=options.test_rows_per_site, seed=seed
        )
    return {file.stem: read_site(file) for file in sorted(options.data.glob("*.jsonl"))}


def _table(lines: Sequence[dict[str, Any]]) -> None:
    print(f"\n{'figure':<44}{'value':>9}  {'±':>5}  {'unit':<7}{'goal':>6}")
    for line in lines:
        goal = "" if line["goal"] is None else f"{line['goal']:.1f}"
        print(
            f"{line['figure']:<44}{line['value']:>9.2f}  {line['config']['deviation']:>5.2f}  "
            f"{line['unit']:<7}{goal:>6}"
        )


if __name__ == "__main__":
    sys.exit(main())
