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
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import masking
from benchmarks.masking import LORA, ROWS, TOKENS, VOCABULARY, encoder, timed
from enclave.masking.channel import MaskedChannel
from enclave.slicing.adapters import adapt
from enclave.slicing.placement import Shape, offload
from enclave.slicing.split import Front, Tail
from enclave_host.unmasked import WrittenStore, cut_in_memory

LAYERS = {768: 12, 1024: 8}
GOALS = {0.5: {"public_front_online_over_fp32": 0.60},
         0.75: {"public_front_online_over_fp32": 0.32, "masked_total_over_fp32": 0.9}}  # fmt: skip


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


def measure(hidden: int, layers: int, k: float, repeats: int, threads: int, folder: Path) -> dict[str, float]:
    """Medians in seconds: of the whole model in `fp32`, and of what stands behind a front of k of it."""
    first, given, shape = round(k * layers), texts(), Shape(ROWS, TOKENS, backward=True)
    whole = stepper(adapt(encoder(hidden, layers), LORA, 1), given)
    front = Front(encoder(hidden, layers), first)
    handed = {"features": front(**given), "attention_mask": given["attention_mask"]}
    inside = Tail(encoder(hidden, layers), first)
    adapt(inside.model, LORA, 1, first)
    times: dict[str, list[float]] = defaultdict(list)
    rivals: dict[str, Callable[[], object]] = {
        "fp32": whole,
        "front": lambda: front(**given),
        "all_in_tee": stepper(inside, handed),
    }
    with ExitStack() as stack:
        placed = []
        for kernel in masking.KERNELS if masking.kernels() else masking.KERNELS[:1]:
            tail = Tail(encoder(hidden, layers), first)
            made = cut_in_memory(tail.model, LORA, 1, WrittenStore(folder / kernel), tail=tail)
            built = masking.kernels() if kernel == "native" else None
            serving = masking.accelerator(folder / kernel, folder / f"{kernel}-channel", threads, built)
            channel, _ = stack.enter_context(serving)
            vault, engine = folder / f"{kernel}-vault", masking.engine(kernel)
            placed.append(masked := offload(made, MaskedChannel(channel), vault, engine=engine))
            rivals[f"offline {kernel}"] = partial(masked.begin_round, 1, [shape])
            rivals[f"online {kernel}"] = stepper(made.model, handed)
        for repeat in range(-2, repeats):
            for name, rival in rivals.items():
                seconds = timed(rival)["wall"]
                if repeat >= 0:
                    times[name].append(seconds)
        assert all(masked.measures()["pads_inline"] == 0 for masked in placed)
    return {name: statistics.median(values) for name, values in times.items()}


def lines(seconds: dict[str, float], config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The figures of one hidden size and one k."""
    ratios: list[tuple[str, float, dict[str, str]]] = []
    for kernel in (kernel for kernel in masking.KERNELS if f"online {kernel}" in seconds):
        online, how = seconds[f"online {kernel}"], {"kernel": kernel}
        total = online + seconds[f"offline {kernel}"]
        ratios.append(("public_front_online_over_fp32", online / seconds["fp32"], how))
        ratios.append(("masked_total_over_fp32", total / seconds["fp32"], how))
    ratios.append(("all_in_tee_over_fp32", seconds["all_in_tee"] / seconds["fp32"], {}))
    ratios.append(("public_front_once_over_fp32", seconds["front"] / seconds["fp32"], {}))
    for name, value, how in ratios:
        yield {
            "figure": name,
            "value": round(value, 6),
            "unit": "ratio",
            "goal": GOALS[config["k"]].get(name),
            "better": "lower",
            "config": config | how,
        }


def figures(repeats: int, threads: int, *, quick: bool) -> Iterator[dict[str, Any]]:
    """Of all hidden sizes and shares; `quick` with four layers and few repeats."""
    for hidden, k in product(LAYERS, GOALS):
        layers, repeated = (4, min(repeats, 3)) if quick else (LAYERS[hidden], repeats)
        config = {
            "hidden": hidden,
            "k": k,
            "layers": layers,
            "tokens": ROWS * TOKENS,
            "lora": LORA.rank,
            "threads": threads,
            "repeats": repeated,
            "processes": 2,
            "accelerator": "cpu",
            "tee": "none",
        }
        with tempfile.TemporaryDirectory(prefix="fedslice-bench-", dir=masking.room()) as folder:
            seconds = measure(hidden, layers, k, repeated, threads, Path(folder))
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
