"""Adapters that earlier studies released, and whether a plan's tuning can start from one.

What fits is decided by the manifest and the settings in the release, before anybody signs; the enclaves
look at the tensors themselves (enclave/slicing/start.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from msgspec import structs

from contracts.architecture.layers import linears_of
from contracts.kinds import SEVERAL, Kind
from contracts.manifest import Adapter, Lora, ModelSpec, Prefix, PublicFront, Spf
from contracts.refusal import Refusal
from federation.datasets.models import Dataset
from federation.people.models import User
from federation.studies import methods
from federation.studies.base_models import base_model_of
from federation.studies.labels import decided
from federation.studies.models import StartingAdapter, Study
from federation.studies.plan import Plan


def offered_to(user: User) -> list[StartingAdapter]:
    """What this person has brought: nobody is offered what another lead was given."""
    return list(StartingAdapter.objects.filter(added_by=user))


def with_start(spec: ModelSpec, study: Study, plan: Plan, adapter: Adapter, kinds: set[Kind]) -> ModelSpec:
    """The model of a manifest, with the pins of what the plan starts from.

    Raises: `study.start_unknown`, `study.start_not_lora` or `study.start_unfit`.
    """
    if not plan.start:
        return spec
    start = _of(study.lead, plan)
    labels = list(spec.labels)
    _require_fit(start, plan, adapter, methods.named(plan.method).front(plan), labels, SEVERAL in kinds)
    return structs.replace(spec, start=start.sha256, start_receipt=start.about["receipt"])


def require_fit(user: User, plan: Plan, datasets: Sequence[Dataset]) -> None:
    """The same of a draft, whose labels may be undecided still: then freezing looks at them.

    Raises: as `with_start`, and what the plan is refused with.
    """
    if not plan.start:
        return
    start = _of(user, plan)
    labels: list[str] | None = None
    if plan.task == "sequence-classification" and datasets:
        try:
            labels, _spellings = decided(plan, datasets)
        except Refusal:
            labels = None
    method = methods.named(plan.method)
    several = None if labels is None else any(dataset.kind == SEVERAL for dataset in datasets)
    _require_fit(start, plan, method.adapter(plan), method.front(plan), labels, several)


def _of(user: User, plan: Plan) -> StartingAdapter:
    found = StartingAdapter.objects.filter(added_by=user, sha256=plan.start).first()
    if found is None:
        raise Refusal("study.start_unknown", sha256=plan.start[:16])
    return found


def _require_fit(
    start: StartingAdapter,
    plan: Plan,
    adapter: Adapter,
    front: PublicFront | None,
    labels: list[str] | None,
    several: bool | None,
) -> None:
    if isinstance(adapter, Prefix):
        raise Refusal("study.start_not_lora", tuned="P-Tuning v2")
    if isinstance(adapter, Spf) and not adapter.lora:
        raise Refusal("study.start_not_lora", tuned="SPF")
    base, about = base_model_of(plan), start.about
    first = plan.cut if isinstance(adapter, Spf) else front.first if front is not None else 0
    asked: dict[str, Any] = {
        "task": plan.task,
        "base model": sorted(base.files.values()),
        "labels": about["labels"] if labels is None or plan.task == "causal-lm" else labels,
        "several labels": about["several"] if several is None else several,
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "rslora": adapter.rslora,
        "targets": _targets(adapter, base.config, about["targets"]),
        "first tuned layer": first,
    }
    found = about | {
        "base model": sorted(about["files"].values()),
        "several labels": about["several"],
        "targets": _paths(about["targets"], base.config),
        "first tuned layer": about["first"],
    }
    for what, wanted in asked.items():
        if found[what] != wanted:
            facts = {"asked": _said(what, wanted), "found": _said(what, found[what])}
            raise Refusal("study.start_unfit", what=what, **facts)


def _said(what: str, value: Any) -> str:
    if what == "base model":
        return value[0][:16] if value else ""
    return (", ".join(map(str, value)) if isinstance(value, list) else str(value))[:300]


def _targets(adapter: Lora | Spf, config: dict[str, Any], of_start: list[str]) -> list[str]:
    if isinstance(adapter, Lora):
        return _paths(adapter.targets, config)
    if not config:
        return sorted(of_start)
    return sorted(one.path for one in linears_of(SimpleNamespace(**config)) if one.role in adapter.lora)


def _paths(targets: Sequence[str], config: dict[str, Any]) -> list[str]:
    """The linears of a layer that these names stand for, as peft reads them."""
    if not config:
        return sorted(targets)
    paths = [one.path for one in linears_of(SimpleNamespace(**config))]
    return sorted(p for p in paths if any(p == one or p.endswith(f".{one}") for one in targets))
