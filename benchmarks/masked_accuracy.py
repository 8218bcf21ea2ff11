"""What the placement `masked` and a public front cost in accuracy: `python -m benchmarks.masked_accuracy`.

For every data set and seed, FedAvg of LoRA over three hospitals four times, with the same rows, batches,
initial adapters and rounds: in plaintext float32; with every frozen linear in the fixed-point
arithmetic of the placement `masked` (int8 weights, per-token features, exact integer products), as the
product does it and in four limbs throughout; and in plaintext with adapters in the last half of the layers
alone, which is what a public front of half the depth (k = ½) leaves to be tuned. The products are computed
unmasked here: tests/masking holds
masked training to unmasked training bit for bit, so masks change the time and not one bit of the
parameters. Accuracy is on the pooled test rows. With `--kept FILE` each run is a line of that file when it
ends, and a run that stands there is not done again. Public data only.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.fedavg import fedavg
from benchmarks.hospitals import hospitals, label_names
from benchmarks.learning import Study, study
from contracts.manifest import Lora, ModelSpec, Training
from enclave.masking.residues import WIDTHS
from enclave.slicing import models
from enclave.slicing.adapters import load_tuned_state, tuned_state
from enclave.training import rates
from enclave.training.loop import train
from enclave_host import base_models
from enclave_host.pinning import pin
from enclave_host.unmasked import UnmaskedEngine, WrittenStore, cut_in_memory

GOAL, WIDTHS_GOAL, FRONT_GOAL = 0.5, 0.3, 1.0
"""Points of accuracy that the mean over seeds may lie below plaintext; three limbs below four; and the last
half of the layers below all of them."""


@dataclass(frozen=True)
class Quantised(Study):
    """The same study on a cut model, whose products are those of the placement `masked`, in these widths."""

    widths: tuple[int, ...] = WIDTHS

    def fresh(self, head_only: bool = False) -> nn.Module:
        """See `Study.fresh`."""
        with tempfile.TemporaryDirectory(prefix="fedslice-weights-") as store:
            base, _ = models.load(self.folder, self.model)
            made = cut_in_memory(
                base, self.adapter, self.training.seed, WrittenStore(Path(store), self.widths)
            )
            made.attach(UnmaskedEngine(made.store))
        return made.model


@dataclass(frozen=True)
class LastHalf(Study):
    """The same study with the adapters of the first half of the layers left as they begin: zero."""

    def fresh(self, head_only: bool = False) -> nn.Module:
        """See `Study.fresh`."""
        model = super().fresh(head_only)
        tuned = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        layers = {name: int(found[1]) for name in tuned if (found := re.search(r"\.layers?\.(\d+)\.", name))}
        for name, layer in layers.items():
            tuned[name].requires_grad_(layer > max(layers.values()) // 2)
        return model


@dataclass(frozen=True)
class Pair:
    """Accuracy in per cent after the last round, of one seed on one data set."""

    seed: int
    plaintext: float
    masked: float
    four_limbs: float
    last_half: float

    @property
    def gap(self) -> float:
        """Points that the masked run lies below the plaintext one."""
        return self.plaintext - self.masked


class Kept:
    """Runs that have ended, a JSON line each in a file; None: nothing is kept."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        there = file.read_text().splitlines() if file is not None and file.exists() else []
        self._found = {self._key(run): run["accuracy"] for run in map(json.loads, there)}

    def accuracy(self, what: Mapping[str, Any], study: Study) -> float:
        """Of the run that `what` names: as it stands there, or measured now."""
        if self._key(what) not in self._found:
            started = time.monotonic()
            found = self._found[self._key(what)] = federated(study)
            line = json.dumps({**what, "accuracy": found, "seconds": round(time.monotonic() - started)})
            print(line, file=sys.stderr, flush=True)
            if self._file is not None:
                with self._file.open("a") as lines:
                    lines.write(line + "\n")
        return self._found[self._key(what)]

    @staticmethod
    def _key(run: Mapping[str, Any]) -> str:
        return json.dumps({k: run[k] for k in sorted(run) if k not in ("accuracy", "seconds")})


def measure(data: Path, seed: int, options: argparse.Namespace, kept: Kept) -> Pair:
    """All runs of one seed."""
    folder = base_models.resolve(base_models.EMBEDDED)
    sites = hospitals(data, rows=options.rows_per_site, test_rows=options.test_rows_per_site, seed=seed)
    spec = ModelSpec(
        source=base_models.EMBEDDED,
        task="sequence-classification",
        files=pin(folder),
        labels=label_names(sites),
        max_tokens=options.max_tokens,
    )
    training = Training(
        rounds=options.rounds,
        local_epochs=1,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=seed,
    )
    adapter = Lora(options.rank, 2 * options.rank, ("query", "key", "value", "dense"))
    plain = study(sites, spec, adapter, training, folder)
    same = (plain.folder, plain.model, adapter, training, plain.sites, plain.tests)
    runs = {
        "plaintext": plain,
        "masked": Quantised(*same),
        "four_limbs": Quantised(*same, widths=(4,)),
        "last_half": LastHalf(*same),
    }
    sizes = {
        name: value for name, value in vars(options).items() if name not in ("data", "sets", "seeds", "kept")
    }
    about = {"set": data.name, "seed": seed} | sizes
    return Pair(seed, **{name: kept.accuracy({"run": name} | about, made) for name, made in runs.items()})


def federated(study: Study) -> float:
    """All rounds as client slices and aggregator do them; accuracy after the last, in per cent."""
    model = study.fresh()
    state = tuned_state(model)
    for number in range(1, study.training.rounds + 1):
        updates = []
        for site, examples in study.sites.items():
            load_tuned_state(model, state)
            result = train(model, examples, study.training, round=number, site=site)
            updates.append((result.samples, tuned_state(model)))
        state = fedavg(updates)
    load_tuned_state(model, state)
    return 100 * rates.accuracy(study.scores(model))


def figures(name: str, pairs: Sequence[Pair], config: dict[str, Any]) -> list[dict[str, Any]]:
    """Means over the seeds in per cent, and the gap in points; `each` holds them by seed."""
    columns = {
        f"masked_accuracy.plaintext.{name}": ([pair.plaintext for pair in pairs], "%", "higher", None),
        f"masked_accuracy.masked.{name}": ([pair.masked for pair in pairs], "%", "higher", None),
        f"masked_accuracy.four_limbs.{name}": ([pair.four_limbs for pair in pairs], "%", "higher", None),
        f"masked_accuracy.gap.{name}": ([pair.gap for pair in pairs], "points", "lower", GOAL),
        f"masked_accuracy.three_below_four.{name}": (
            [pair.four_limbs - pair.masked for pair in pairs],
            "points",
            "lower",
            WIDTHS_GOAL,
        ),
        f"masked_accuracy.last_half.{name}": ([pair.last_half for pair in pairs], "%", "higher", None),
        f"masked_accuracy.front_below_all.{name}": (
            [pair.plaintext - pair.last_half for pair in pairs],
            "points",
            "lower",
            FRONT_GOAL,
        ),
    }
    return [
        {
            "figure": figure,
            "value": round(statistics.fmean(values), 2),
            "unit": unit,
            "goal": goal,
            "better": better,
            "config": {**config, "each": [round(value, 2) for value in values]},
        }
        for figure, (values, unit, better, goal) in columns.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every data set and seed, print the lines and then the table."""
    options = _options(arguments)
    torch.set_num_threads(1)
    config = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    lines, kept = [], Kept(options.kept)
    for name in options.sets.split(","):
        pairs = []
        for seed in map(int, options.seeds.split(",")):
            pairs.append(measure(options.data / name, seed, options, kept))
        lines += figures(name, pairs, config)
    for line in lines:
        print(json.dumps(line), flush=True)
    print(f"\n{'figure':<44}{'mean':>8}  {'unit':<7}{'goal':>5}  by seed")
    for line in lines:
        goal = "" if line["goal"] is None else f"{line['goal']:.1f}"
        print(
            f"{line['figure']:<44}{line['value']:>8.2f}  {line['unit']:<7}{goal:>5}  {line['config']['each']}"
        )
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.masked_accuracy", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/datasets"))
    parser.add_argument(
        "--sets", default="medquad-qtype,nhs-feedback,msha-injury", help="folders in it, comma-separated"
    )
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--rows-per-site", type=int, default=200)
    parser.add_argument("--test-rows-per-site", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--kept", type=Path, help="a file with a line for each run that has ended")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
