"""The accelerator on a GPU: three or four int8 limbs on its matrix units against bfloat16.

    python -m benchmarks.masking_gpu [--tokens 256 2048]

For one layer of a model (all its frozen linears, forward and backward) and a batch of tokens:

    bf16        the products in bfloat16, operands on the GPU: what a plain training step pays for them
    limbs       the same products of words of three or four bytes by int8 weights, operands on the GPU
    limbs_pcie  with the words coming from pinned host memory and the residues going back to it

Medians after warm-up, timed by CUDA events. Each product is compared with the float64 reference once. Needs
torch and numpy alone; without a GPU it measures nothing and says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from enclave.masking.residues import WIDTHS, Packed
from enclave.masking.ring import Limbs
from enclave_host.gpu import OnDevice

# (outputs, inputs) of each group with one input, in a layer: siblings with one input are together.
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


def product(outer: int, inner: int, tokens: int, limbs: int) -> dict[str, float]:
    """Milliseconds and bytes of one product in one direction."""
    generator = torch.Generator().manual_seed(outer + inner)
    weight = torch.randint(-127, 128, (outer, inner), dtype=torch.int8, generator=generator)
    high_type = torch.int8 if limbs == 3 else torch.int16
    low, high = (
        torch.randint(torch.iinfo(kind).min, torch.iinfo(kind).max + 1, (tokens, inner), generator=generator)
        .to(kind).pin_memory()
        for kind in (torch.int16, high_type)
    )  # fmt: skip
    back = [torch.empty(tokens, outer, dtype=kind).pin_memory() for kind in (torch.int16, high_type)]
    there, held, device = [low.cuda(), high.cuda()], weight.cuda(), OnDevice("cuda")
    features, floats = torch.randn(tokens, inner, device="cuda").bfloat16(), held.bfloat16()

    def with_transfer() -> None:
        for plane, source in zip(there, (low, high), strict=True):
            plane.copy_(source, non_blocking=True)
        for target, plane in zip(back, device.residues(there[0], there[1], held), strict=True):
            target.copy_(plane, non_blocking=True)

    done = {
        "bf16": milliseconds(lambda: features @ floats.t()),
        "limbs": milliseconds(lambda: device.residues(there[0], there[1], held)),
        "limbs_pcie": milliseconds(with_transfer),
        "bytes": float(sum(plane.nbytes for plane in (low, high, *back))),
    }
    _check(low, high, weight, back)
    return done


def _check(low: Tensor, high: Tensor, weight: Tensor, answer: list[Tensor]) -> None:
    words = Packed(low[:2].numpy().view(np.uint16), high[:2].numpy())
    right = Packed.empty(2, CHECKED, words.limbs)
    Limbs("float64").multiply(words, weight[:CHECKED], right)
    for plane, given in zip((right.low.view(np.int16), right.high), answer, strict=True):
        if not torch.equal(torch.from_numpy(plane), given[:2, :CHECKED]):
            raise SystemExit("the GPU's product is wrong")


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masking_gpu", description=main.__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 2048])
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("There is no GPU here; nothing was measured.", file=sys.stderr)
        return 0
    for model, shapes in SHAPES.items():
        for tokens, limbs in itertools.product(options.tokens, WIDTHS):
            total = dict.fromkeys(("bf16", "limbs", "limbs_pcie", "bytes"), 0.0)
            for outputs, inputs in shapes:
                for outer, inner in ((outputs, inputs), (inputs, outputs)):
                    for name, value in product(outer, inner, tokens, limbs).items():
                        total[name] += value
            config = {"model": model, "tokens": tokens, "limbs": limbs, "gpu": torch.cuda.get_device_name()}
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
