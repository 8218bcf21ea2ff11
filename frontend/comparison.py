"""Runs side by side: their settings, what they cost, how well they did; and means over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l

from contracts.refusal import Refusal
from enclave_jobs.runs import costs
from enclave_jobs.runs.models import Round, RoundKind, RoundState, Run
from federation.frozen import Frozen, frozen
from federation.studies.models import BaseModel
from frontend.scoring import by_training, scores_of

# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom; beyond them the normal's.
T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """One run. `settings` are all that may differ between runs, by their names in the CSV; `scores` are of
    validation rows, by which runs are compared, and `test` of test rows; None where there is nothing to say.
    `older`: its manifest is of an older format."""

    run: Run
    older: bool
    settings: dict[str, Any]
    scores: dict[str, Any]
    test: dict[str, Any]
    best_round: int | None
    trained: int | None
    optimizer: int | None
    bytes_up: int
    seconds: float | None
    rounds: list[Round]

    @property
    def accuracy(self) -> float | None:
        """On validation rows, pooled."""
        return score_of(self.scores, "accuracy")

    @property
    def macro_f1(self) -> float | None:
        """On validation rows, pooled."""
        return self.scores.get("macro_f1")

    @property
    def loss(self) -> float | None:
        """On validation rows, pooled."""
        return self.scores.get("loss")

    @property
    def test_accuracy(self) -> float | None:
        """On test rows, pooled, of the best round."""
        return score_of(self.test, "accuracy")


def compared(runs: Sequence[Run]) -> list[Compared]:
    """The runs with what is compared, in the order given; a handful of queries, however many they are."""
    models = {(model.source, model.task): model for model in BaseModel.objects.all()}
    published = Round.objects.filter(run__in=runs, state=RoundState.PUBLISHED).order_by("number")
    rounds: dict[str, list[Round]] = {}
    for row in published.prefetch_related("contributions"):
        rounds.setdefault(row.run_id, []).append(row)
    return [_compared(run, frozen(run), rounds.get(run.pk, []), models) for run in runs]


def _compared(
    run: Run, found: Frozen, rounds: list[Round], models: dict[tuple[str, str], BaseModel]
) -> Compared:
    counted = None
    model = models.get((found.at("model", "source"), found.at("model", "task")))
    if model is not None and found.manifest is not None:
        try:
            counted = costs.counted(costs.work_of(found.manifest), model)
        except Refusal:
            counted = None
    scores = scores_of(rounds)
    return Compared(
        run=run,
        older=found.fault is not None,
        settings=settings_of(found),
        scores=scores.validation,
        test=scores.test,
        best_round=scores.best,
        trained=counted.trained if counted else None,
        optimizer=counted.optimizer if counted else None,
        bytes_up=sent(rounds, found),
        seconds=run.summary.get("seconds"),
        rounds=rounds,
    )


def sent(rounds: Iterable[Round], found: Frozen) -> int:
    """Sealed bytes from the hospitals. Method 2 names the same features in every round: they went up once."""
    made = [one for row in rounds for one in row.contributions.all()]
    if found.at("split") is None:
        return sum(one.bytes or 0 for one in made)
    once: dict[str, int] = {}
    for one in made:
        once[one.site_id] = max(once.get(one.site_id, 0), one.bytes or 0)
    return sum(once.values())


SETTINGS: dict[str, tuple[tuple[str, ...], Any]] = {
    "model": (("model", "source"), _l("Base model")),
    "method": (("method",), _l("Method")),
    "placement": (("placement",), _l("Placement")),
    "runtime": (("runtime",), _l("Runtime")),
    "passes": (("masking", "passes"), _l("Masks put on by")),
    "hospitals": (("sites",), _l("Hospitals")),
    "tokens": (("model", "max_tokens"), _l("Tokens")),
    "rounds": (("training", "rounds"), _l("Rounds")),
    "epochs": (("training", "local_epochs"), _l("Epochs")),
    "batch": (("training", "batch_size"), _l("Batch")),
    "learning_rate": (("training", "learning_rate"), _l("Learning rate")),
    "schedule": (("training", "schedule"), _l("Schedule")),
    "warmup": (("training", "warmup"), _l("Warm-up")),
    "patience": (("training", "patience"), _l("Patience")),
    "proximal": (("training", "proximal"), _l("FedProx's μ")),
    "packing": (("training", "packing"), _l("Rows packed (tokens)")),
    "at_once": (("training", "at_once"), _l("Rows at a time")),
    "activations": (("training", "activations"), _l("Activations")),
    "precision": (("training", "precision"), _l("Precision")),
    "start": (("model", "start"), _l("Starts from the adapter")),
    "rule": (("aggregation", "rule"), _l("Averaging")),
    "clip": (("aggregation", "clip"), _l("Clip")),
    "server_optimizer": (("aggregation", "optimizer", "kind"), _l("Server's step")),
    "server_learning_rate": (("aggregation", "optimizer", "learning_rate"), _l("Server's learning rate")),
    "server_beta1": (("aggregation", "optimizer", "beta1"), _l("Server's β₁")),
    "server_beta2": (("aggregation", "optimizer", "beta2"), _l("Server's β₂")),
    "server_tau": (("aggregation", "optimizer", "tau"), _l("Server's τ")),
    "noise": (("aggregation", "privacy", "noise"), _l("Noise")),
    "privacy": (("aggregation", "privacy", "unit"), _l("Noise for")),
    "seed": (("training", "seed"), _l("Seed")),
    "adapter": (("adapter", "kind"), _l("Adapter")),
    "rank": (("adapter", "rank"), _l("Rank")),
    "alpha": (("adapter", "alpha"), _l("Alpha")),
    "lora_dropout": (("adapter", "dropout"), _l("LoRA dropout")),
    "rslora": (("adapter", "rslora"), _l("rsLoRA")),
    "targets": (("adapter", "targets"), _l("Targets")),
    "prefix_length": (("adapter", "length"), _l("Prefix length")),
    "attention_ratio": (("adapter", "attention"), _l("Heads, %")),
    "dense_ratio": (("adapter", "dense"), _l("Dense rows, %")),
    "select": (("adapter", "select"), _l("Selection")),
    "cut": (("split", "cut"), _l("Cut after layer")),
    "batches": (("split", "batches"), _l("Batches")),
}
"""By its name in the CSV: where a setting stands in a manifest, and its name for people. All by which runs
may differ; what a manifest does not say (another method's, or an older format's) is left out."""


def settings_of(found: Frozen) -> dict[str, Any]:
    """The settings that this manifest states, flat."""
    stated = {name: found.at(*path) for name, (path, _label) in SETTINGS.items()}
    stated["hospitals"] = len(found.names)
    stated["targets"] = ", ".join(stated["targets"] or ()) or None
    return {name: value for name, value in stated.items() if value is not None}


def title_of(name: str) -> str:
    """A setting's name for people."""
    return str(SETTINGS[name][1])


def score_of(scores: dict[str, Any], metric: str) -> float | None:
    """Accuracy is of tokens for a causal model."""
    return scores.get(metric, scores.get("token_accuracy") if metric == "accuracy" else None)


def differing(rows: Sequence[Compared]) -> list[str]:
    """The settings that are not the same in all of these runs. What an older format did not state yet is no
    difference."""
    names = list(dict.fromkeys(name for row in rows for name in row.settings))

    def stated(name: str) -> set[str]:
        return {str(row.settings.get(name)) for row in rows if name in row.settings or not row.older}

    return [name for name in names if len(stated(name)) > 1]


def label(row: Compared, rows: Sequence[Compared]) -> str:
    """A run's name in a legend: its study's, and how it differs where two share that."""
    same = [other for other in rows if other.run.study.name == row.run.study.name]
    if len(same) == 1:
        return row.run.study.name
    settings = _stated(row.settings, differing(same))
    return f"{row.run.study.name} ({settings or row.run.pk[:6]})"


def _stated(settings: dict[str, Any], names: Iterable[str]) -> str:
    """These settings in words; what a run does not have is not said of it."""
    return ", ".join(f"{title_of(name)} {settings[name]}" for name in names if name in settings)


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ in nothing but their seed: how many have a score, its mean, and half the width of its
    95 % confidence interval (None for a single run)."""

    settings: dict[str, Any]
    count: int
    mean: float
    half: float | None


def groups(rows: Iterable[Compared], metric: str = "accuracy") -> list[SeedGroup]:
    """The groups, in the order of their first runs. Runs that have not finished are left out."""
    found: dict[tuple[str, ...], list[Compared]] = {}
    for row in rows:
        if row.run.state == "finished" and score_of(row.scores, metric) is not None:
            key = tuple(f"{name}={value}" for name, value in sorted(row.settings.items()) if name != "seed")
            found.setdefault(key, []).append(row)
    made = []
    for members in found.values():
        scores = [score_of(member.scores, metric) or 0.0 for member in members]
        made.append(SeedGroup(members[0].settings, len(scores), mean(scores), half_width(scores)))
    return made


def half_width(values: Sequence[float]) -> float | None:
    """Half the 95 % confidence interval of the mean, by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    free = len(values) - 2
    return (T95[free] if free < len(T95) else 1.96) * stdev(values) / sqrt(len(values))


def numeric(rows: Sequence[Compared]) -> list[str]:
    """Settings that make an axis: numbers that differ, but for the seed; ratios come first."""
    names = [
        name
        for name in differing(rows)
        if name != "seed" and all(isinstance(row.settings.get(name), int | float) for row in rows)
    ]
    return sorted(names, key=lambda name: not name.endswith("ratio"))


def axes(rows: Sequence[Compared]) -> list[str]:
    """The settings along which finished runs make a line: two points of it, at least."""
    return [name for name in numeric(rows) if any(len(set(line["x"])) > 1 for line in sweep(rows, name))]


def sweep(rows: Sequence[Compared], axis: str, metric: str = "accuracy") -> list[dict[str, Any]]:
    """Lines of mean against `axis`, one for each combination of the other settings that differ."""
    others = [
        name for name in differing(rows) if name not in (axis, "seed") and not _goes_with(rows, name, axis)
    ]
    lines: dict[str, list[SeedGroup]] = {}
    for group in groups(rows, metric):
        name = _stated(group.settings, others) or _("mean")
        lines.setdefault(name, []).append(group)
    return [
        {
            "name": name,
            "x": [point.settings[axis] for point in points],
            "y": [point.mean for point in points],
            "half": [point.half or 0 for point in points],
            "counts": [point.count for point in points],
        }
        for name, members in lines.items()
        for points in [sorted(members, key=lambda group: group.settings[axis])]
    ]


def _goes_with(rows: Sequence[Compared], name: str, axis: str) -> bool:
    """Two ratios that are always moved together make one axis, not many lines."""
    if not (name.endswith("ratio") and axis.endswith("ratio")):
        return False
    return len({(row.settings[axis], row.settings.get(name)) for row in rows}) == len(
        {row.settings[axis] for row in rows}
    )


def curve(row: Compared, key: str) -> dict[str, list[Any]]:
    """Score on validation rows after each number of rounds of training, pooled."""
    points = [(after, score_of(one, key), one.get("rows")) for after, one in by_training(row.rounds)]
    there = [point for point in points if point[1] is not None]
    return {"rounds": [p[0] for p in there], "values": [p[1] for p in there], "counts": [p[2] for p in there]}


def trained_rounds(row: Compared) -> int:
    """Training rounds published."""
    return sum(one.kind == RoundKind.TRAIN for one in row.rounds)
