"""Method 2: the sites have the first layers, and the server's enclave the others; features go up once."""

from __future__ import annotations

from typing import Any

from contracts.manifest import Adapter, KeyShares, Spf, Split
from contracts.policy import Program
from federation.studies.memory import front_bytes, tail_bytes
from federation.studies.plan import Plan
from federation.studies.workload import FEATURE, Workload, feature_bytes

programs: tuple[Program, ...] = ("split_server",)
serves = True
has_ratios = True


def adapter(plan: Plan) -> Adapter:
    """SPF's ratios behind the cut, and LoRA."""
    return Spf(
        attention=plan.attention_ratio,
        dense=plan.dense_ratio,
        select=plan.select,
        seed=plan.seed,
        rows=plan.tuned_rows,
        lora=plan.tuned_lora,
        rank=plan.rank,
        alpha=plan.alpha,
        dropout=plan.lora_dropout,
        rslora=plan.rslora,
    )


def positions(_plan: Plan) -> int:
    """None: a text may be as long as the model reads."""
    return 0


def split(plan: Plan, sites: int) -> Split:
    """The plan's cut. In a TEE without a sealing key (TDX) the state's key is in shares, asked for or not."""
    threshold = plan.key_shares
    if threshold is None and plan.runtime == "tdx":
        threshold = min(sites, max(2, plan.quorum or sites))  # as many as a quorum, never one site alone
    shares = None if threshold is None else KeyShares(threshold)
    return Split(plan.cut, plan.batches, plan.checkpointing, shares)


def computes_again(_plan: Plan) -> bool:
    """Where the tail does, its split says so."""
    return False


def front(_plan: Plan) -> None:
    """What stands before the cut is a front of its own."""


def memory(config: Any, _parameters: int, work: Workload, trained: int) -> tuple[int, int]:
    """The tail with all sites' features, and a site's front."""
    features = sum(work.rows) * work.tokens * config.hidden_size * FEATURE
    return tail_bytes(config, work, trained) + features, front_bytes(config, work)


def traffic(config: Any, work: Workload, _trained: int) -> tuple[int, int]:
    """Features of texts of full length, once; nothing comes down."""
    return feature_bytes(config, work), 0


def kept(config: Any, work: Workload) -> int:
    """All that went up, sealed."""
    return feature_bytes(config, work)


def rows_in_turn(work: Workload) -> int:
    """All sites': one server works on them."""
    return sum(work.rows)
