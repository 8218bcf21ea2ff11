"""What a draft begins with because it was measured: learning rate and rounds by what is tuned, and where it
is masked a public front of half the layers.

Rates were searched on validation rows of models that sort texts (`benchmarks.rates`); the figures stand in
docs/results.md, and a test holds these numbers against them. A front of half the layers halves a masked step
(`benchmarks.public_front`), and there the mean over seeds lost less than a point of accuracy on each data set
(`benchmarks.masked_accuracy`). Elsewhere a draft has the plan's own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from federation.studies.plan import Plan


class Searched(NamedTuple):
    """The best rate, and after which round its curve was highest."""

    learning_rate: float
    rounds: int


SEARCHED = {"lora": Searched(0.002, 4), "prefix": Searched(0.01, 5), "spf": Searched(0.0005, 5)}
"""By kind of adapter: LoRA at every linear, P-Tuning v2 with 16 positions, SPF at 25 % behind the third of
six layers."""


_OWN = Plan(model="any")


def kind_of(method: str, adapter: str) -> str:
    """What a plan tunes, as the search names it."""
    return "spf" if method == "method-2" else adapter


def default_for(task: str, method: str, adapter: str) -> Searched:
    """What a draft begins with."""
    if task == "sequence-classification":
        return SEARCHED[kind_of(method, adapter)]
    return Searched(_OWN.learning_rate, _OWN.rounds)


def following(plan: dict[str, Any], changes: dict[str, Any], layers: int = 0) -> dict[str, Any]:
    """What changes with what is tuned and where, each where the plan still has what it began with: what a
    lead has typed stays. `layers` are the model's."""
    before, after = _default_of(plan, layers), _default_of({**plan, **changes}, layers)
    return {name: after[name] for name in after if plan.get(name, 0) == before[name] != after[name]}


def front_for(plan: dict[str, Any], layers: int) -> int:
    """How many layers a draft leaves to the hospitals' own machines."""
    measured = (
        plan.get("task", "sequence-classification") == "sequence-classification"
        and plan.get("placement") == "masked"
        and plan.get("adapter", "lora") == "lora"
        and plan.get("accelerator", "site") == "site"
    )
    return layers // 2 if measured else 0


def _default_of(plan: dict[str, Any], layers: int) -> dict[str, Any]:
    task, method = plan.get("task", "sequence-classification"), plan.get("method", "method-1")
    searched = default_for(task, method, plan.get("adapter", "lora"))
    return {**searched._asdict(), "front": front_for(plan, layers)}
