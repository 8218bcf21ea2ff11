"""What a public front saves: one training step behind it against one of all layers, interleaved.

    python -m benchmarks.public_front [--quick] [--repeats N] [--threads N]

`make bench-masking` runs it too.

For each hidden size a random BERT encoder takes 256 tokens through forward, backward and AdamW in float32,
with LoRA on all layers (`fp32`); and behind a front of half and of three quarters of the layers (k), which
its site computes once: all in the enclave, and masked on a real accelerator process, with pads from the vault
(`online`) and their making (`offline`). Figures are medians of rounds in which all take their turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import masking
from benchmarks.masking import LORA, ROWS, TOKENS, VOCABULARY, encoder, timed
from enclave.masking.channel import Channel
from enclave.masking.layers import Store
from enclave.slicing.adapters import adapt
from enclave.slicing.cut import cut
from enclave.slicing.placement import Masked, Shape, put_out
from enclave.slicing.split import Front, Tail

LAYERS = {768: 12, 1024: 8}
GOALS = {0.5: {"public_front_online_over_fp32": 0.60},
         0.75: {"public_front_online_over_fp32": 0.32, "masked_total_over_fp32": 0.9}}  # fmt: skip


@dataclass(frozen=True)
class Behind:
    """A tail behind k of the layers, in the enclave and masked."""

    k: float
    front: Callable[[], object]
    inside: Callable[[], None]
    masked: Masked
    online: Callable[[], None]


def stepper(model: nn.Module, inputs: dict[str, torch.Tensor]) -> Callable[[], None]:
    """One training step on these inputs."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, targets = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0), torch.arange(ROWS) % 3

    def step() -> None:
        nn.functional.cross_entropy(model(**inputs).logits, targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def texts() -> dict[str, torch.Tensor]:
    """ROWS texts of TOKENS random tokens."""
    ids = torch.randint(3, VOCABULARY, (ROWS, TOKENS), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def behind(hidden: int, layers: int, k: float, threads: int, folder: Path, open: ExitStack) -> Behind:
    """Build it; its accelerator ends with `open`."""
    first, given, store = round(k * layers), texts(), folder / f"weights-{k}"
    front = Front(encoder(hidden, layers), first)
    handed = {"features": front(**given), "attention_mask": given["attention_mask"]}
    inside, tail = Tail(encoder(hidden, layers), first), Tail(encoder(hidden, layers), first)
    adapt(inside.model, LORA, 1, first)
    made = cut(tail.model, LORA, 1, Store(store), tail=tail)
    channel = open.enter_context(masking.accelerator(store, folder / f"channel-{k}", threads))
    masked = put_out(made, Channel(channel), folder / f"vault-{k}")
    return Behind(k, lambda: front(**given), stepper(inside, handed), masked, stepper(made.model, handed))


def measure(hidden: int, layers: int, repeats: int, threads: int, folder: Path) -> dict[str, float]:
    """Medians in seconds, by `name` or `name k`."""
    times: dict[str, list[float]] = defaultdict(list)
    shape = Shape(ROWS, TOKENS, backward=True)
    with ExitStack() as open:
        whole = stepper(adapt(encoder(hidden, layers), LORA, 1), texts())
        tails = [behind(hidden, layers, k, threads, folder, open) for k in GOALS]
        for repeat in range(-2, repeats):
            found = {"fp32": timed(whole)}
            for one in tails:
                found[f"front {one.k}"] = timed(one.front)
                found[f"all_in_tee {one.k}"] = timed(one.inside)
                found[f"offline {one.k}"] = timed(lambda one=one: one.masked.begin_round(1, [shape]))  # type: ignore[misc]
                found[f"online {one.k}"] = timed(one.online)
                assert one.masked.measures()["pads_inline"] == 0
            if repeat >= 0:
                for name, value in found.items():
                    times[name].append(value)
    return {name: statistics.median(values) for name, values in times.items()}


def lines(seconds: dict[str, float], config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The figures of one hidden size, of each k."""
    whole = seconds["fp32"]
    for k, goals in GOALS.items():
        online, offline = seconds[f"online {k}"], seconds[f"offline {k}"]
        ratios = {
            "public_front_online_over_fp32": online / whole,
            "masked_total_over_fp32": (online + offline) / whole,
            "all_in_tee_over_fp32": seconds[f"all_in_tee {k}"] / whole,
            "public_front_once_over_fp32": seconds[f"front {k}"] / whole,
        }
        for name, value in ratios.items():
            yield {
                "figure": name,
                "value": round(value, 6),
                "unit": "ratio",
                "goal": goals.get(name),
                "better": "lower",
                "config": {**config, "k": k},
            }


def figures(repeats: int, threads: int, *, quick: bool) -> Iterator[dict[str, Any]]:
    """Of all hidden sizes; `quick` with four layers and few repeats."""
    for hidden, layers in LAYERS.items():
        config = {
            "hidden": hidden,
            "layers": 4 if quick else layers,
            "tokens": ROWS * TOKENS,
            "lora": LORA.rank,
            "threads": threads,
            "repeats": min(repeats, 3) if quick else repeats,
            "processes": 2,
            "accelerator": "cpu",
            "tee": "none",
        }
        with tempfile.TemporaryDirectory(prefix="fedslice-bench-", dir=masking.room()) as folder:
            seconds = measure(hidden, config["layers"], config["repeats"], threads, Path(folder))
        yield from lines(seconds, config)


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.public_front", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="four layers, few repeats")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1, help="for each process; they work in turn")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for line in figures(options.repeats, options.threads, quick=options.quick):
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
