"""Learning rates and rounds that were searched for, by what is tuned: what a draft begins with.

Searched on validation rows of models that sort texts (`benchmarks.rates`); the figures stand in
docs/results.md, and a test holds these numbers against them. Elsewhere a draft has the plan's own.
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


def following(plan: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Rate and rounds that change with what is tuned, each where the plan still has what it began with: what
    a lead has typed stays."""
    before, after = _default_of(plan), _default_of({**plan, **changes})
    return {
        name: getattr(after, name)
        for name in Searched._fields
        if plan.get(name) == getattr(before, name) != getattr(after, name)
    }


def _default_of(plan: dict[str, Any]) -> Searched:
    task, method = plan.get("task", "sequence-classification"), plan.get("method", "method-1")
    return default_for(task, method, plan.get("adapter", "lora"))
