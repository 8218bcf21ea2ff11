"""The lead's plan of a study: what `Study.settings` holds. Freezing turns it into the run manifest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.kinds import Task
from contracts.manifest import Name, Percent, Place, Placement, Rule, Select
from contracts.policy import TcbStatus
from contracts.refusal import Refusal


class Plan(Struct, forbid_unknown_fields=True, frozen=True):
    """One flat page of choices, all with a default but the model's.

    `model` is the source of a registered base model. Method 1 reads `adapter`, `prefix_length`, `front`
    (how many layers each site's own machine computes in clear; 0: none) with `front_sample`, and, if
    masked, `repetitions`, `vault_bytes`, `accelerator` and `native_passes`; Method 2 reads from `cut` to
    `tuned_lora`. Empty `targets` means the model's usual ones. `clip` and `max_samples` of None bound
    nothing; `privacy` is the unit of the noise that `noise`, `delta` and, for records, `gradient_clip`
    describe. `quorum` and `release_approvals` of None mean all sites; `answers` (0: no bound) is for a
    model that is served. A `server_learning_rate` of None is 1 with momentum and 0.01 where it adapts,
    and only there are `server_beta2` and `server_tau` read.
    `start` is the SHA-256 of a released adapter that tuning starts from (empty: of drawn parameters).
    `rounds` counts training rounds.
    `key_shares` sites together make the key of a Method 2 server's state where its TEE has none of its own;
    None means a quorum of them on TDX, and elsewhere a sealing key. `same_labels` (spelling -> label) and
    `different_labels` decide about labels that look alike; `merge_own_labels`: also where one hospital has
    both. `cells`: tables of the test are told in multiples of so many rows at least, where a manifest may
    have them (0: never).
    """

    model: Name
    task: Task = "sequence-classification"
    method: Literal["method-1", "method-2"] = "method-1"
    placement: Placement = "all_in_tee"
    adapter: Literal["lora", "prefix"] = "lora"
    runtime: Literal["development", "direct", "sgx", "tdx"] = "development"
    max_tokens: Annotated[int, Meta(ge=8, le=8192)] = 128
    same_labels: Annotated[dict[Name, Name], Meta(max_length=1000)] = {}
    different_labels: Annotated[tuple[Name, ...], Meta(max_length=1000)] = ()
    merge_own_labels: bool = False
    rank: Annotated[int, Meta(ge=1, le=512)] = 8
    alpha: Annotated[int, Meta(ge=1, le=1024)] = 16
    lora_dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    rslora: bool = False
    targets: Annotated[tuple[Name, ...], Meta(max_length=32)] = ()
    prefix_length: Annotated[int, Meta(ge=1, le=1024)] = 16
    repetitions: Annotated[int, Meta(ge=1, le=8)] = 1
    vault_bytes: Annotated[int, Meta(ge=0, le=1 << 44)] = 4 << 30
    accelerator: Literal["site", "other"] = "site"
    native_passes: bool = False
    front: Annotated[int, Meta(ge=0, le=1000)] = 0
    front_sample: Annotated[int, Meta(ge=1, le=10_000)] = 32
    cut: Annotated[int, Meta(ge=1, le=1000)] = 1
    batches: Literal["pooled", "per-site"] = "pooled"
    checkpointing: bool = False
    key_shares: Annotated[int, Meta(ge=1, le=1000)] | None = None
    attention_ratio: Percent = 25.0
    dense_ratio: Percent = 25.0
    select: Select = "largest"
    tuned_rows: Annotated[tuple[Place, ...], Meta(max_length=2)] = ("dense",)
    tuned_lora: Annotated[tuple[Place, ...], Meta(max_length=2)] = ("attention_output",)
    start: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    rounds: Annotated[int, Meta(ge=1, le=1000)] = 4
    local_epochs: Annotated[int, Meta(ge=1, le=100)] = 1
    batch_size: Annotated[int, Meta(ge=1, le=1024)] = 16
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    seed: Annotated[int, Meta(ge=0, lt=2**53)] = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[float, Meta(ge=0, le=1)] = 0.0
    patience: Annotated[int, Meta(ge=0, le=1000)] = 0
    proximal: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    packing: Annotated[int, Meta(ge=0, le=8192)] = 0
    at_once: Annotated[int, Meta(ge=0, le=1024)] = 0
    rule: Rule = "fedavg"
    clip: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    max_samples: Annotated[int, Meta(ge=1, lt=2**40)] | None = None
    server_optimizer: Literal["none", "fedavgm", "fedadam", "fedyogi"] = "none"
    server_learning_rate: Annotated[float, Meta(gt=0, le=10)] | None = None
    server_beta1: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    server_beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    server_tau: Annotated[float, Meta(ge=1e-9, le=1)] = 1e-3
    privacy: Literal["none", "site", "record"] = "none"
    noise: Annotated[float, Meta(ge=0.01, le=1000)] = 1.0
    delta: Annotated[float, Meta(gt=0, le=0.1)] = 1e-5
    gradient_clip: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    quorum: Annotated[int, Meta(ge=1, le=1000)] | None = None
    deadline_seconds: Annotated[int, Meta(ge=10, le=7 * 24 * 3600)] = 3600
    cells: Annotated[int, Meta(ge=0, le=10_000)] = 5
    written_rows: Annotated[int, Meta(ge=0, le=256)] = 0
    written_tokens: Literal[16, 32, 64, 128, 256] = 64
    release: Literal["nothing", "serve-only", "sealed-to-sites", "export"] = "nothing"
    release_approvals: Annotated[int, Meta(ge=1, le=1000)] | None = None
    answers: Annotated[int, Meta(ge=0, lt=2**40)] = 0
    accepted_statuses: tuple[TcbStatus, ...] = ("UpToDate",)
    accepted_advisories: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[A-Z0-9-]{1,32}\Z")], ...], Meta(max_length=256)
    ] = ()


def read(settings: Any) -> Plan:
    """The plan in a settings value.

    Raises: `study.invalid_plan` and the first fault.
    """
    try:
        return msgspec.convert(settings, Plan)
    except msgspec.ValidationError as error:
        raise Refusal("study.invalid_plan", fault=str(error)[:300]) from error


def write(plan: Plan) -> dict[str, Any]:
    """The plan as `Study.settings` keeps it."""
    return msgspec.to_builtins(plan)
