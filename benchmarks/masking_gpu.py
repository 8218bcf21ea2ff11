"""The accelerator on a GPU: four int8 limbs on its matrix units against the plain product in bfloat16.

    python -m benchmarks.masking_gpu [--tokens 256 2048]

For one layer of a model (all its frozen linears, forward and backward) and a batch of tokens:

    bf16        the products in bfloat16, operands on the GPU: what a plain training step pays for them
    limbs       the same products of 32-bit words by int8 weights, operands on the GPU
    limbs_pcie  with the words coming from pinned host memory and the residues going back to it

Medians after warm-up, timed by CUDA events. Each product is compared with the float64 reference once. Needs
torch and numpy alone; without a GPU it measures nothing and says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from enclave.masking.ring import Limbs, reference

# (outputs, inputs) of each trip of a layer: siblings with one input are together.
SHAPES = {
    "bert-4096": ((12288, 4096), (4096, 4096), (16384, 4096), (4096, 16384)),
    "llama-8b": ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)),
}
REPEATS, CHECKED = 20, 64


def milliseconds(call: Callable[[], object]) -> float:
    """The median of REPEATS calls."""
    times = []
    for repeat in range(-3, REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        if repeat >= 0:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def product(outer: int, inner: int, tokens: int, limbs: Limbs) -> dict[str, float]:
    """Milliseconds and bytes of one product in one direction."""
    generator = torch.Generator().manual_seed(outer + inner)
    weight = torch.randint(-127, 128, (outer, inner), dtype=torch.int8, generator=generator)
    words = torch.randint(-(1 << 31), (1 << 31) - 1, (tokens, inner), dtype=torch.int32, generator=generator)
    pinned, back = words.pin_memory(), torch.empty(tokens, outer, dtype=torch.int32).pin_memory()
    there, held = words.cuda(), weight.cuda()
    features, floats = torch.randn(tokens, inner, device="cuda").bfloat16(), held.bfloat16()
    answer = torch.empty(tokens, outer, dtype=torch.int32, device="cuda")

    def with_transfer() -> None:
        there.copy_(pinned, non_blocking=True)
        limbs.multiply(there, held, answer)
        back.copy_(answer, non_blocking=True)

    done = {
        "bf16": milliseconds(lambda: features @ floats.t()),
        "limbs": milliseconds(lambda: limbs.multiply(there, held, answer)),
        "limbs_pcie": milliseconds(with_transfer),
        "bytes": float(pinned.nbytes + back.nbytes),
    }
    _check(words, weight, back)
    return done


def _check(words: Tensor, weight: Tensor, answer: Tensor) -> None:
    if not torch.equal(reference(words[:2], weight[:CHECKED]), answer[:2, :CHECKED]):
        raise SystemExit("the GPU's product is wrong")


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masking_gpu", description=main.__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 2048])
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("There is no GPU here; nothing was measured.", file=sys.stderr)
        return 0
    limbs = Limbs("cuda")
    for model, shapes in SHAPES.items():
        for tokens in options.tokens:
            total = dict.fromkeys(("bf16", "limbs", "limbs_pcie", "bytes"), 0.0)
            for outputs, inputs in shapes:
                for outer, inner in ((outputs, inputs), (inputs, outputs)):
                    for name, value in product(outer, inner, tokens, limbs).items():
                        total[name] += value
            config = {"model": model, "tokens": tokens, "gpu": torch.cuda.get_device_name()}
            figures = [(f"gpu_{name}", total[name], "ms") for name in ("bf16", "limbs", "limbs_pcie")]
            figures += [
                ("gpu_limbs_over_bf16", total["limbs"] / total["bf16"], "ratio"),
                ("gpu_limbs_pcie_over_bf16", total["limbs_pcie"] / total["bf16"], "ratio"),
                ("gpu_bytes", total["bytes"], "bytes"),
            ]
            for name, value, unit in figures:
                line = {"figure": name, "value": round(value, 4), "unit": unit, "goal": None}
                print(json.dumps({**line, "better": "lower", "config": config}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
