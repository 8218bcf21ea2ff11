"""What Method 2 costs: `python -m benchmarks.split [--quick] [--device cuda] [--shape minilm|bert|llama-8b]`.

- `epoch_over_full_lora`: an epoch of the tail over cached features (read back from the bytes of their shards,
  SPF at 25 % with LoRA on the attention output) over an epoch of plaintext LoRA of rank 8 on the full model,
  with the same rows in the same batches. Goals for a cut at half and at three quarters of the layers.
- `spf_step_over_lora_step`: a training step of the tail with SPF alone over one with LoRA of rank 8 on the
  same matrices of the same tail. Beside it, without a goal, over LoRA on query and value alone.
- `optimizer_bytes_over_full`: AdamW's state for the tuned rows over its state for full tuning of the same
  matrices, both measured on optimizers after a step. `taken` is the share that rounding to whole heads gave.
- `serve_latency_over_local`: see `benchmarks.serving`; for one text, and for a batch at once.
- `seal_over_raw_gcm`, `open_over_raw_gcm`: see `benchmarks.sealing`; of shards.

Random weights in the shape of a real model: what is measured does not depend on their values. All rivals run
in turn in one process, so that a busy machine disturbs them alike; a figure is the median of the ratios of
rounds. Public code on random rows: nothing here is protected.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    LlamaConfig,
    PreTrainedModel,
)

from benchmarks import sealing, serving
from contracts.architecture.layers import linears_of
from contracts.architecture.spf_size import size_of
from contracts.manifest import Lora, Spf
from enclave.slicing.adapters import adapt
from enclave.slicing.spf import optimizer_bytes, tune
from enclave.slicing.split import Front, Tail
from enclave.training.data import Examples
from enclave.training.features import SHARD_BYTES, FeatureSet, Layout, from_bytes, to_bytes
from enclave.training.loop import MAX_GRADIENT_NORM
from site_agent.methods.shard_making import compute, plan_shards

GOALS = {("epoch_over_full_lora", 0.5): 0.6, ("epoch_over_full_lora", 0.75): 0.35}
STEP_GOAL, STEP_GOAL_RATIO, BYTES_SLACK = 1.10, 25.0, 1.05
RATIOS = (12.5, 25.0, 50.0, 62.5, 100.0)
RANK, ALPHA, LABELS, SEED = 8, 16, 4, 7

Step = Callable[[], object]


@dataclass(frozen=True)
class BenchmarkShape:
    """A shape of model, rows and batches. `layers` is divisible by four, so that both cuts exist."""

    layers: int
    batch: int
    examples: int
    tokens: int
    rounds: int


WORKS = {
    "minilm": BenchmarkShape(layers=12, batch=16, examples=128, tokens=96, rounds=7),
    "bert": BenchmarkShape(layers=12, batch=16, examples=128, tokens=128, rounds=5),
    "llama-8b": BenchmarkShape(layers=32, batch=8, examples=64, tokens=512, rounds=5),
}
QUICK = BenchmarkShape(layers=4, batch=8, examples=32, tokens=64, rounds=5)


def configuration(shape: str, layers: int) -> Any:
    """all-MiniLM-L12, BERT base or Llama 3 8B, with the given number of layers, without dropout."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    common = {"num_labels": LABELS, "pad_token_id": 0, "num_hidden_layers": layers}
    if shape == "minilm":
        return BertConfig(hidden_size=384, num_attention_heads=12, intermediate_size=1536, **still, **common)
    if shape == "bert":
        return BertConfig(**still, **common)
    return LlamaConfig(
        hidden_size=4096, num_attention_heads=32, num_key_value_heads=8, intermediate_size=14336,
        vocab_size=128256, **common,
    )  # fmt: skip


def base_model(shape: str, work: BenchmarkShape, device: str) -> PreTrainedModel:
    """Random weights; float32 on a CPU, bf16 on a GPU."""
    torch.manual_seed(SEED)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = AutoModelForSequenceClassification.from_config(
            configuration(shape, work.layers), dtype=dtype, attn_implementation="sdpa"
        )
    return model.eval()


def rows(work: BenchmarkShape) -> Examples:
    """Random token ids; lengths from a quarter of the longest to the longest."""
    draw = random.Random(SEED)
    lengths = [draw.randint(work.tokens // 4, work.tokens) for _ in range(work.examples)]
    tokens = [[draw.randrange(1000, 20000) for _ in range(length)] for length in lengths]
    return Examples(tokens, [draw.randrange(LABELS) for _ in lengths], 0)


class Trainer:
    """A model with its trainable parameters and AdamW: one step as in `enclave.training.loop`."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model.train()
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.0)

    def step(self, targets: Tensor, **inputs: Tensor) -> None:
        cross_entropy(self.model(**inputs).logits.float(), targets).backward()
        nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()


def tail_of(model: PreTrainedModel, k: int) -> Tail:
    """A tail of a copy of `model`."""
    return Tail(copy.deepcopy(model), k)


def spf(ratio: float, lora: tuple[str, ...]) -> Spf:
    return Spf(ratio, ratio, lora=lora, rank=RANK, alpha=ALPHA)  # type: ignore[arg-type]


def targets_of(tail: Tail, suffixes: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Names of the matrices that SPF tunes, or of those of them that end in one of `suffixes`."""
    return tuple(
        f"{place.removeprefix('model.')}.{linear.path}"
        for place, _ in tail.layers()
        for linear in linears_of(tail.config)
        if linear.role != "attention_output" and (suffixes is None or linear.path.endswith(suffixes))
    )


def with_lora(tail: Tail, targets: tuple[str, ...]) -> Tail:
    tail.model = adapt(tail.model, Lora(RANK, ALPHA, targets), SEED)
    return tail


def measure(rivals: dict[str, Step], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each rival in each round."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(rounds + 1):  # the first warms up
        for name, act in rivals.items():
            _wait(device)
            started = time.perf_counter()
            act()
            _wait(device)
            if number:
                times[name].append(time.perf_counter() - started)
    return times


def over(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of rounds."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def epochs(model: PreTrainedModel, work: BenchmarkShape, device: str) -> Iterator[dict[str, Any]]:
    """An epoch over cached features against one of full-model LoRA."""
    examples, layers = rows(work), work.layers
    lengths = [len(tokens) for tokens in examples.tokens]
    whole = tail_of(model, 0)
    full = Trainer(adapt(copy.deepcopy(model), Lora(RANK, ALPHA, targets_of(whole)), SEED))
    del whole

    def full_epoch() -> None:
        for batch in examples.training_batches(work.batch, random.Random(SEED)):
            full.step(
                batch.targets.to(device),
                input_ids=batch.input_ids.to(device), attention_mask=batch.attention_mask.to(device),
            )  # fmt: skip

    def tail_epoch(trainer: Trainer, shards: list[bytes], layout: Layout) -> None:
        cached = FeatureSet([from_bytes(data, layout) for data in shards], layout)
        dtype = next(trainer.model.parameters()).dtype
        for batch in cached.training_batches(work.batch, random.Random(SEED)):
            trainer.step(
                batch.targets.to(device),
                features=batch.features.to(device, dtype), attention_mask=batch.attention_mask.to(device),
            )  # fmt: skip

    rivals: dict[str, Step] = {"full": full_epoch}
    sizes = {}
    for part in (0.5, 0.75):
        k = round(layers * part)
        layout = Layout("0" * 64, model.config.hidden_size, work.tokens, LABELS, False)
        front = Front(copy.deepcopy(model), k)
        shards = [
            to_bytes(compute(front, examples, which, 32), layout) for which in plan_shards(lengths, layout)
        ]
        del front
        tail = tail_of(model, k)
        tune(tail, spf(25.0, ("attention_output",)), SEED)
        trainer = Trainer(tail)
        sizes[part] = sum(map(len, shards)) / len(examples)
        rivals[f"{part}"] = lambda t=trainer, s=shards, p=layout: tail_epoch(t, s, p)  # type: ignore[misc]
    times = measure(rivals, work.rounds, device)
    for part in (0.5, 0.75):
        goal = GOALS["epoch_over_full_lora", part]
        yield line(
            "epoch_over_full_lora", over(times[f"{part}"], times["full"]), "ratio of seconds", goal,
            k=part, layer=round(layers * part), spf_ratio=25.0, lora="attention output",
            seconds=statistics.median(times[f"{part}"]), full_seconds=statistics.median(times["full"]),
            bytes_per_example=round(sizes[part]), shard_bytes=SHARD_BYTES,
        )  # fmt: skip


def steps(model: PreTrainedModel, work: BenchmarkShape, device: str) -> Iterator[dict[str, Any]]:
    """A step with SPF against a step with LoRA, on the same tail and batch; optimizer state beside."""
    k = work.layers // 2
    dtype = next(model.parameters()).dtype
    generator = torch.Generator().manual_seed(SEED)
    shape = (work.batch, work.tokens, model.config.hidden_size)
    features = torch.randn(shape, generator=generator).to(device, dtype)
    mask = torch.ones(shape[:2], dtype=torch.long, device=device)
    targets = torch.randint(0, LABELS, (work.batch,), generator=generator).to(device)
    same = with_lora(tail_of(model, k), targets_of(tail_of(model, k)))
    two = with_lora(tail_of(model, k), targets_of(tail_of(model, k), ("query", "value", "q_proj", "v_proj")))
    trainers = {"same": Trainer(same), "query and value": Trainer(two)}
    for ratio in RATIOS:
        tail = tail_of(model, k)
        tune(tail, spf(ratio, ()), SEED)
        trainers[f"{ratio}"] = Trainer(tail)
    rivals: dict[str, Step] = {
        name: (lambda t=trainer: t.step(targets, features=features, attention_mask=mask))
        for name, trainer in trainers.items()
    }
    times = measure(rivals, work.rounds * 2, device)
    for ratio in RATIOS:
        for name, goal in (
            ("same", STEP_GOAL if ratio == STEP_GOAL_RATIO else None),
            ("query and value", None),
        ):
            yield line(
                "spf_step_over_lora_step", over(times[f"{ratio}"], times[name]), "ratio of seconds", goal,
                ratio=ratio, lora="the same matrices" if name == "same" else "query and value alone", k=0.5,
                rank=RANK, batch=work.batch, tokens=work.tokens,
                seconds=statistics.median(times[f"{ratio}"]), lora_seconds=statistics.median(times[name]),
            )  # fmt: skip
    rows_bytes = {ratio: rows_state(trainers[f"{ratio}"]) for ratio in RATIOS}
    all_bytes = {ratio: optimizer_bytes(trainers[f"{ratio}"].optimizer) for ratio in RATIOS}
    for ratio in RATIOS:
        counted = size_of(model.config, spf(ratio, ()), k, LABELS)
        yield line(
            "optimizer_bytes_over_full", rows_bytes[ratio] / rows_bytes[100.0], "ratio of bytes",
            ratio / 100 * BYTES_SLACK, ratio=ratio, k=0.5, taken=counted.rows / counted.full,
            bytes=rows_bytes[ratio], full_bytes=rows_bytes[100.0],
            with_head=all_bytes[ratio] / all_bytes[100.0], planned_bytes=counted.optimizer_bytes,
        )  # fmt: skip


def answers(model: PreTrainedModel, work: BenchmarkShape, device: str) -> Iterator[dict[str, Any]]:
    """Asking the served tail against asking the whole model at the same place."""
    draw, k = random.Random(SEED), work.layers // 2
    for texts in (1, work.batch):
        tokens = [[draw.randrange(1000, 20000) for _ in range(work.tokens)] for _ in range(texts)]
        served, local = serving.rivals(model, k, tokens)
        times = measure({"served": served, "local": local}, work.rounds, device)
        yield line(
            "serve_latency_over_local", over(times["served"], times["local"]), "ratio of seconds", None,
            texts=texts, tokens=work.tokens, k=0.5, seconds=statistics.median(times["served"]),
            local_seconds=statistics.median(times["local"]),
        )  # fmt: skip


def throughputs(_model: PreTrainedModel, work: BenchmarkShape, _device: str) -> Iterator[dict[str, Any]]:
    """Sealing and opening shards against bare AES-256-GCM."""
    mib = 2 * SHARD_BYTES >> 20
    for found in sealing.measure(mib, None, ("shard",)):
        yield found.line(mib)


def rows_state(trainer: Trainer) -> int:
    """Bytes of optimizer state for tuned rows (without the head, which is tuned in full at any ratio)."""
    tuned = {id(parameter) for name, parameter in trainer.model.named_parameters() if name.endswith(".rows")}
    return sum(
        value.numel() * value.element_size()
        for parameter, state in trainer.optimizer.state.items()
        if id(parameter) in tuned
        for value in state.values()
    )


def line(figure: str, value: float, unit: str, goal: float | None, **config: Any) -> dict[str, Any]:
    config = {key: round(v, 4) if isinstance(v, float) else v for key, v in config.items()}
    goal = None if goal is None else round(goal, 6)
    return {
        "figure": figure,
        "value": round(value, 4),
        "unit": unit,
        "goal": goal,
        "better": "lower",
        "config": config,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="four layers, few rows: under two minutes on a core"
    )
    parser.add_argument("--shape", choices=tuple(WORKS), default="minilm")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    work = QUICK if options.quick else WORKS[options.shape]
    model = base_model(options.shape, work, options.device)
    shared = {
        "shape": options.shape, "layers": work.layers, "device": options.device, "quick": options.quick,
        "threads": torch.get_num_threads(), "cpus": os.cpu_count(), "rounds": work.rounds,
    }  # fmt: skip
    lines = []
    for part in (epochs, steps, answers, throughputs):
        for found in part(model, work, options.device):
            found["config"] |= shared
            print(json.dumps(found), flush=True)
            lines.append(found)
    print(f"\n{'figure':28}{'of':34}{'value':>8}{'goal':>8}")
    for found in lines:
        config = found["config"]
        of = f"k {config['k']}" if "k" in config else f"{config['what']}s"
        of = f"{config['ratio']} %" if "ratio" in config else of
        of += f", texts at once: {config['texts']}" if "texts" in config else ""
        of += f", LoRA on {config['lora']}" if found["figure"] == "spf_step_over_lora_step" else ""
        goal = "" if found["goal"] is None else f"{found['goal']:.3f}"
        print(f"{found['figure']:28}{of:34}{found['value']:8.3f}{goal:>8}")


if __name__ == "__main__":
    main()
