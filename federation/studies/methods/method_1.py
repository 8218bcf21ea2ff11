"""Method 1: each site's enclave has the whole model, and sends what it tuned in each round."""

from __future__ import annotations

from typing import Any

from contracts.architecture.front import require_layer
from contracts.manifest import Adapter, Lora, Prefix, PublicFront
from contracts.policy import Program
from contracts.refusal import Refusal
from federation.studies.base_models import base_model_of
from federation.studies.memory import front_bytes, masked_bytes, outside_bytes, tail_bytes, whole_bytes
from federation.studies.plan import Plan
from federation.studies.workload import FLOAT, Workload, feature_bytes

programs: tuple[Program, ...] = ("aggregator", "client_slice")
serves = False
has_ratios = False


def adapter(plan: Plan) -> Adapter:
    """LoRA on the plan's targets, or on those that suit the model; or a prefix."""
    if plan.adapter == "prefix":
        return Prefix(plan.prefix_length)
    targets = plan.targets or tuple(base_model_of(plan).targets)
    if not targets:
        raise Refusal("study.bad_targets")
    return Lora(plan.rank, plan.alpha, targets, plan.lora_dropout, plan.rslora)


def positions(plan: Plan) -> int:
    """A prefix stands before each text."""
    return plan.prefix_length if plan.adapter == "prefix" else 0


def split(_plan: Plan, _sites: int) -> None:
    """The model is not cut."""


def front(plan: Plan) -> PublicFront | None:
    """The plan's, if at least one layer is left to be tuned."""
    if not plan.front:
        return None
    require_layer(base_model_of(plan).config.get("num_hidden_layers", 0), plan.front)
    return PublicFront(plan.front, plan.front_sample)


def memory(config: Any, parameters: int, work: Workload, trained: int) -> tuple[int, int]:
    """A client slice: what stands behind a public front, or all of the model; masked all but the linears,
    which an accelerator holds as int8 at the hospital. Its host runs the front."""
    outside = front_bytes(config, work) if work.cut else 0
    if work.placement == "masked":
        return masked_bytes(config, work, trained), outside + outside_bytes(config, work)
    if work.cut:
        return tail_bytes(config, work, trained), outside
    return whole_bytes(config, parameters, work, trained), 0


def computes_again(plan: Plan) -> bool:
    """Whether client slices compute activations a second time: not where they would be masked twice, or
    stand behind a prefix."""
    return plan.checkpointing and plan.placement != "masked" and plan.adapter == "lora"


def traffic(_config: Any, work: Workload, trained: int) -> tuple[int, int]:
    """The adapters go up each round, and come down for each but the first, for the closing and the test."""
    return FLOAT * trained * work.rounds, FLOAT * trained * (work.rounds + 1)


def kept(config: Any, work: Workload) -> int:
    """Behind a public front those of all rows."""
    return feature_bytes(config, work) if work.cut else 0


def rows_in_turn(work: Workload) -> int:
    """The largest site's: sites work side by side."""
    return max(work.rows, default=0)
