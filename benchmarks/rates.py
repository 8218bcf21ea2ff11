"""Which learning rate and which targets each kind of adapter wants: `python -m benchmarks.rates`.

Searched over three data sets of three hospitals each, on *validation* rows (the last of each hospital's
training rows, which nothing trains on; test rows are not opened). The wizard names the rates with the best
mean (docs/results.md). Method 1's adapters by FedAvg in one process, as the enclaves
compute it; Method 2's tail on pooled batches of cached features. Public data only: nothing here is protected.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from msgspec import structs
from torch import nn

from benchmarks.fedavg import fedavg
from benchmarks.hospitals import hospitals, label_names
from benchmarks.learning import Study, study
from benchmarks.split_learning import cached, split
from contracts.manifest import Lora, ModelSpec, Prefix, Spf, Training
from enclave.slicing import models
from enclave.slicing.adapters import adapt, load_tuned_state, tuned_state
from enclave.slicing.prefix import tune_prefix
from enclave.training import rates
from enclave.training.loop import train
from enclave.training.row_reader import SiteRows
from enclave_host import base_models
from enclave_host.pinning import pin

DATASETS = ("medquad-qtype", "msha-injury", "nhs-feedback")
ALL, QUERY_VALUE = ("query", "key", "value", "dense"), ("query", "value")


@dataclass(frozen=True)
class Candidate:
    """A kind of adapter as the wizard knows it, and the rates that it is tried with."""

    kind: str
    adapter: Lora | Prefix | Spf
    rates: tuple[float, ...]


CANDIDATES = (
    Candidate("lora", Lora(8, 16, ALL), (5e-4, 1e-3, 2e-3, 5e-3)),
    Candidate("prefix", Prefix(16), (3e-3, 1e-2, 3e-2)),
    Candidate("spf", Spf(25.0, 25.0), (2e-4, 5e-4, 2e-3)),
    Candidate("lora, query and value", Lora(8, 16, QUERY_VALUE), (1e-3, 2e-3, 5e-3)),
)
CUT = 3


class KeptTrials:
    """The trials of earlier calls, by what was tried, and a place for those of this one."""

    def __init__(self, file: Path | None, **config: object) -> None:
        self._file, self._config = file, config
        lines = file.read_text().splitlines() if file is not None and file.exists() else []
        self._found = [json.loads(line) for line in lines]

    def curve(self, **tried: object) -> list[float] | None:
        """The accuracy after each round, in per cent, where it is known."""
        asked = self._config | tried
        return next((one["rounds"] for one in self._found if asked.items() <= one.items()), None)

    def keep(self, **trial: object) -> None:
        """Print it, and keep it."""
        line = json.dumps(self._config | trial)
        print(line, flush=True)
        if self._file is not None:
            with self._file.open("a") as file:
                print(line, file=file, flush=True)


def rows_of(folder: Path, rows: int, validation: int, seed: int) -> dict[str, SiteRows]:
    """Training rows, and validation rows in the place where the strategies look for what they score."""
    dealt = hospitals(folder, rows=rows + validation, test_rows=1, seed=seed)
    return {site: SiteRows(found.train[:rows], [], found.train[rows:]) for site, found in dealt.items()}


def federated(shared: Study, adapter: Lora | Prefix) -> list[float]:
    """Accuracy on the pooled validation rows after each round of FedAvg."""
    model = _fresh(shared, adapter)
    state, curve = tuned_state(model), []
    for number in range(1, shared.training.rounds + 1):
        updates = []
        for site, examples in shared.sites.items():
            load_tuned_state(model, state)
            done = train(model, examples, shared.training, round=number, site=site)
            updates.append((done.samples, tuned_state(model)))
        state = fedavg(updates)
        load_tuned_state(model, state)
        curve.append(rates.accuracy(shared.scores(model)))
    return curve


def _fresh(shared: Study, adapter: Lora | Prefix) -> nn.Module:
    base, _ = models.load(shared.folder, shared.model)
    seed = shared.training.seed
    return adapt(base, adapter, seed) if isinstance(adapter, Lora) else tune_prefix(base, adapter, seed)


def measure(
    options: argparse.Namespace, kept: KeptTrials, data: str, seed: int
) -> Iterator[tuple[Candidate, float, float]]:
    """(what, its rate, its accuracy on validation rows in per cent) for one data set."""
    sites = rows_of(options.data / data, options.rows_per_site, options.validation_rows, seed)
    folder = base_models.resolve(options.model)
    model = ModelSpec(
        options.model, "sequence-classification", pin(folder), label_names(sites), options.max_tokens
    )
    training = Training(options.rounds, 1, options.batch_size, 1e-3, seed, precision=options.precision)
    shared = study(sites, model, Lora(8, 16, ALL), training, folder)
    features = None
    for candidate in CANDIDATES:
        for rate in candidate.rates:
            trial = {"kind": candidate.kind, "rate": rate, "data": data, "seed": seed}
            curve = kept.curve(**trial)
            if curve is None:
                now = structs.replace(training, learning_rate=rate)
                started = time.monotonic()
                if isinstance(candidate.adapter, Spf):
                    features = cached(shared, CUT) if features is None else features
                    shares = [split(shared, features, candidate.adapter, now).accuracy]
                else:
                    shares = federated(replace(shared, training=now), candidate.adapter)
                curve = [round(100 * share, 1) for share in shares]
                kept.keep(**trial, rounds=curve, seconds=round(time.monotonic() - started, 1))
            yield candidate, rate, curve[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each trial as it ends, then one figure for each kind and rate."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    kept = KeptTrials(
        options.kept, model=options.model, rows=options.rows_per_site, validation=options.validation_rows,
        batch=options.batch_size, tokens=options.max_tokens, precision=options.precision,
        asked=options.rounds,
    )  # fmt: skip
    found: dict[tuple[str, float], list[float]] = defaultdict(list)
    for data in options.datasets.split(","):
        for seed in map(int, options.seeds.split(",")):
            for candidate, rate, accuracy in measure(options, kept, data, seed):
                found[candidate.kind, rate].append(accuracy)
    for (kind, rate), each in found.items():
        config = {"kind": kind, "rate": rate, "rows": options.rows_per_site, "rounds": options.rounds,
                  "datasets": options.datasets, "each": [round(value, 1) for value in each]}  # fmt: skip
        line = {"figure": "rates.validation_accuracy", "value": round(statistics.fmean(each), 1), "unit": "%"}
        print(json.dumps({**line, "goal": None, "better": "higher", "config": config}), flush=True)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.rates", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/datasets"), help="folder of data sets")
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--model", default=base_models.EMBEDDED)
    parser.add_argument("--rows-per-site", type=int, default=100)
    parser.add_argument("--validation-rows", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--seeds", default="0", help="comma-separated")
    parser.add_argument("--kept", type=Path, help="file of trials, one JSON object a line")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
