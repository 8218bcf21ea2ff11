"""Both methods with a GPU: one prepared script, under eight minutes, for wherever a GPU is at hand.

    make bench-gpu        or    python -m benchmarks.gpu [--seconds N] [--device cuda|cpu] [--tiny]

In this order, and what the time does not reach is named at the end:

    pcie      bandwidth of pinned memory to the GPU and back
    products  all frozen linears of a layer, forward and backward, of BERT at 4096 and of an 8B Llama, for 256
              and 2,048 tokens, three limbs and four: in bfloat16 (what a plain step pays); as int8 limbs on
              the GPU (`limbs`); with words from and residues to pinned host memory, one after the other
              (`limbs_pcie`), and in pieces whose copies in both directions overlap (`limbs_overlapped`). Each
              is compared with the float64 reference once. `share_of_pcie` is the bound of the bus over it
    masked    a whole masked training step, enclave on the CPU, accelerator process on the GPU
    tail      a step of Method 2's tail (SPF) in bfloat16
              … both against the whole model in bfloat16 with LoRA on one GPU

Medians after warm-up. Without a GPU it measures nothing, says so and ends with 3. `--device cpu --tiny` runs
all of it on the CPU with small sizes, which the tests do; such figures mean nothing.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import masking, split
from contracts.manifest import Lora
from enclave.masking.channel import MaskedChannel
from enclave.masking.residues import WIDTHS, Packed
from enclave.masking.ring import Limbs
from enclave.slicing.adapters import adapt
from enclave.slicing.placement import Shape, offload
from enclave.slicing.spf import tune
from enclave_host.gpu import OnDevice
from enclave_host.unmasked import WrittenStore, cut_in_memory
from enclave_host.words import room_for

NO_GPU = 3
# (outputs, inputs) of each group with one input, in a layer: siblings with one input are together.
SHAPES = {
    "bert-4096": ((12288, 4096), (4096, 4096), (16384, 4096), (4096, 16384)),
    "llama-8b": ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)),
}
CHECKED, PIECES = 64, 4
SHARE_GOAL = 0.7
SECONDS = 440


@dataclass(frozen=True)
class Sizes:
    """How large everything is. `hidden` and `layers` are of the masked step, `work` of the tail's model."""

    shapes: dict[str, tuple[tuple[int, int], ...]]
    tokens: tuple[int, ...]
    repeats: int
    copied: int
    hidden: tuple[tuple[int, int], ...]
    model: str
    work: split.BenchmarkShape


FULL = Sizes(
    SHAPES, (256, 2048), 20, 256 << 20, ((1024, 4), (4096, 1)), "llama-8b",
    split.BenchmarkShape(layers=8, batch=8, examples=8, tokens=512, rounds=5),
)  # fmt: skip
TINY = Sizes(
    {"tiny": ((48, 32), (32, 64))}, (24,), 2, 1 << 16, ((64, 1),), "minilm",
    split.BenchmarkShape(layers=4, batch=2, examples=2, tokens=8, rounds=1),
)  # fmt: skip


class Machine:
    """A GPU, or a CPU in its place: copies, streams and clocks."""

    def __init__(self, device: str, repeats: int) -> None:
        self.device, self.repeats = device, repeats
        self.gpu = device == "cuda"
        self.name = torch.cuda.get_device_name() if self.gpu else "none"
        self._streams = [torch.cuda.Stream() for _ in range(2)] if self.gpu else []

    def wait(self) -> None:
        """Until all is done."""
        if self.gpu:
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], object]) -> float:
        """The median of some calls."""
        times = []
        for repeat in range(-3, self.repeats):
            self.wait()
            started = time.perf_counter()
            call()
            self.wait()
            if repeat >= 0:
                times.append(time.perf_counter() - started)
        return statistics.median(times)

    def host(self, tensor: Tensor) -> Tensor:
        """In pinned memory."""
        return tensor.pin_memory() if self.gpu else tensor

    def overlap(
        self, pieces: list[slice], bring: Callable[[slice], None], compute: Callable[[slice], list[Tensor]],
        back: Callable[[slice, list[Tensor]], None],
    ) -> None:  # fmt: skip
        """Each piece comes, is computed and goes back, while others do."""
        if not self.gpu:
            for piece in pieces:
                bring(piece)
                back(piece, compute(piece))
            return
        here, (coming, going) = torch.cuda.current_stream(), self._streams
        coming.wait_stream(here)
        for piece in pieces:
            with torch.cuda.stream(coming):
                bring(piece)
            here.wait_stream(coming)
            done = compute(piece)
            going.wait_stream(here)
            with torch.cuda.stream(going):
                back(piece, done)
            for plane in done:
                plane.record_stream(going)
        here.wait_stream(going)


def pcie(machine: Machine, size: int) -> tuple[float, float]:
    """Bytes a second to the GPU, and back."""
    host = machine.host(torch.zeros(size, dtype=torch.uint8))
    there = torch.zeros(size, dtype=torch.uint8, device=machine.device)
    into = machine.seconds(lambda: there.copy_(host, non_blocking=True))
    back = machine.seconds(lambda: host.copy_(there, non_blocking=True))
    return size / into, size / back


def product(machine: Machine, outer: int, inner: int, tokens: int, limbs: int) -> dict[str, float]:
    """Seconds and bytes of one product in one direction."""
    generator = torch.Generator().manual_seed(outer + inner)
    weight = torch.randint(-127, 128, (outer, inner), dtype=torch.int8, generator=generator)
    kinds = (torch.int16, torch.int8 if limbs == 3 else torch.int16)
    words = []
    for kind in kinds:
        ends = torch.iinfo(kind)
        drawn = torch.randint(ends.min, ends.max + 1, (tokens, inner), generator=generator)
        words.append(machine.host(drawn.to(kind)))
    answer = [machine.host(torch.empty(tokens, outer, dtype=kind)) for kind in kinds]
    there, held = [plane.to(machine.device) for plane in words], weight.to(machine.device)
    device = OnDevice(machine.device)
    features = torch.randn(tokens, inner, device=machine.device).bfloat16()
    floats = held.bfloat16()

    def bring(rows: slice) -> None:
        for plane, source in zip(there, words, strict=True):
            plane[rows].copy_(source[rows], non_blocking=True)

    def compute(rows: slice) -> list[Tensor]:
        return list(device.residues(there[0][rows], there[1][rows], held))

    def back(rows: slice, done: list[Tensor]) -> None:
        for target, plane in zip(answer, done, strict=True):
            target[rows].copy_(plane, non_blocking=True)

    def in_turn() -> None:
        bring(all_rows)
        back(all_rows, compute(all_rows))

    all_rows, size = slice(0, tokens), -(-tokens // PIECES)
    pieces = [slice(at, min(at + size, tokens)) for at in range(0, tokens, size)]
    done = {
        "bf16": machine.seconds(lambda: features @ floats.t()),
        "limbs": machine.seconds(lambda: compute(all_rows)),
        "limbs_pcie": machine.seconds(in_turn),
    }
    _check(words, weight, answer)
    for plane in answer:
        plane.zero_()
    done["limbs_overlapped"] = machine.seconds(lambda: machine.overlap(pieces, bring, compute, back))
    _check(words, weight, answer)
    sizes = {"in": sum(p.nbytes for p in words), "out": sum(p.nbytes for p in answer)}
    return {**done, **{f"bytes_{way}": float(size) for way, size in sizes.items()}}


def _check(words: list[Tensor], weight: Tensor, answer: list[Tensor]) -> None:
    """The first rows and the last against float64."""
    for rows in (slice(0, 2), slice(-2, None)):
        low, high = (plane[rows].numpy() for plane in words)
        right = room_for(2, len(weight[:CHECKED]), 2 + high.itemsize)
        Limbs("float64").multiply(Packed(low.view(np.uint16), high), weight[:CHECKED], right)
        for plane, given in zip((right.low.view(np.int16), right.high), answer, strict=True):
            if not torch.equal(torch.from_numpy(plane), given[rows, :CHECKED]):
                raise SystemExit("the GPU's product is wrong")


def layer(total: dict[str, float], bandwidth: tuple[float, float]) -> dict[str, tuple[float, str]]:
    """The figures of a layer, from the sums over its products and the bus's bytes a second."""
    bound = max(total["bytes_in"] / bandwidth[0], total["bytes_out"] / bandwidth[1])  # both ways at once
    ways = ("bf16", "limbs", "limbs_pcie", "limbs_overlapped")
    figures = {f"gpu_{way}": (1000 * total[way], "ms") for way in ways}
    figures |= {f"gpu_{way}_over_bf16": (total[way] / total["bf16"], "ratio") for way in ways[1:]}
    figures["gpu_pcie_bound"] = (1000 * bound, "ms")
    figures["gpu_share_of_pcie"] = (bound / total["limbs_overlapped"], "ratio")
    figures["gpu_bytes"] = (total["bytes_in"] + total["bytes_out"], "bytes")
    return figures


def masked_step(machine: Machine, hidden: int, layers: int, folder: Path) -> dict[str, float]:
    """Seconds of a step masked on the GPU, and of all of it in bfloat16 there."""
    kernel = masking.KERNELS[-1] if masking.kernels() else masking.KERNELS[0]
    made = cut_in_memory(masking.encoder(hidden, layers), masking.LORA, 1, WrittenStore(folder / "store"))
    whole = adapt(masking.encoder(hidden, layers), masking.LORA, 1)
    rival = masking.stepper(whole.to(machine.device, torch.bfloat16))
    step, shape = masking.stepper(made.model), Shape(masking.ROWS, masking.TOKENS, backward=True)
    times = []
    serving = masking.accelerator(folder / "store", folder / "channel", 1, device=machine.device)
    with serving as (channel, _):
        placed = offload(made, MaskedChannel(channel), folder / "vault", engine=masking.engine(kernel))
        for repeat in range(-2, machine.repeats):
            placed.begin_round(1, [shape])
            started = time.perf_counter()
            step()
            if repeat >= 0:
                times.append(time.perf_counter() - started)
        assert placed.measures()["pads_inline"] == 0
    return {"masked_step": statistics.median(times), "bf16_step": machine.seconds(rival)}


def tail_step(machine: Machine, name: str, work: split.BenchmarkShape) -> dict[str, float]:
    """Seconds of a step of Method 2's tail of half the layers, and of the whole model with LoRA."""
    model, k = split.base_model(name, work, machine.device), work.layers // 2
    targets = split.targets_of(split.tail_of(model, 0))
    whole = split.Trainer(adapt(copy.deepcopy(model), Lora(split.RANK, split.ALPHA, targets), split.SEED))
    tail = split.tail_of(model, k)
    tune(tail, split.spf(25.0, ("attention_output",)), split.SEED)
    trainer, shape = split.Trainer(tail), (work.batch, work.tokens)
    ids = torch.randint(1, 1000, shape, device=machine.device)
    mask, answers = torch.ones_like(ids), torch.zeros(work.batch, dtype=torch.long, device=machine.device)
    dtype = next(model.parameters()).dtype
    features = torch.randn(*shape, model.config.hidden_size, device=machine.device, dtype=dtype)
    return {
        "tail_step": machine.seconds(lambda: trainer.step(answers, features=features, attention_mask=mask)),
        "lora_step": machine.seconds(lambda: whole.step(answers, input_ids=ids, attention_mask=mask)),
    }


def parts(machine: Machine, sizes: Sizes) -> Iterator[tuple[str, Callable[[], dict[str, tuple[float, str]]]]]:
    """What is measured, by name, in its order: figures with their units."""
    bandwidth: list[tuple[float, float]] = []

    def of_bus() -> dict[str, tuple[float, str]]:
        bandwidth.append(pcie(machine, sizes.copied))
        return {
            f"gpu_pcie_{way}": (rate / 1e9, "GB/s")
            for way, rate in zip(("in", "out"), bandwidth[0], strict=True)
        }

    def of_layer(model: str, tokens: int, limbs: int) -> dict[str, tuple[float, str]]:
        total: dict[str, float] = {}
        for outputs, inputs in sizes.shapes[model]:
            for outer, inner in ((outputs, inputs), (inputs, outputs)):
                for name, value in product(machine, outer, inner, tokens, limbs).items():
                    total[name] = total.get(name, 0.0) + value
        return layer(total, bandwidth[0])

    def of_masked(hidden: int, layers: int) -> dict[str, tuple[float, str]]:
        with tempfile.TemporaryDirectory(prefix="fedslice-bench-", dir=masking.room()) as folder:
            took = masked_step(machine, hidden, layers, Path(folder))
        figures = {f"gpu_{name}": (1000 * seconds, "ms") for name, seconds in took.items()}
        return figures | {"gpu_masked_over_bf16": (took["masked_step"] / took["bf16_step"], "ratio")}

    def of_tail() -> dict[str, tuple[float, str]]:
        took = tail_step(machine, sizes.model, sizes.work)
        figures = {f"gpu_{name}": (1000 * seconds, "ms") for name, seconds in took.items()}
        return figures | {"gpu_tail_over_bf16": (took["tail_step"] / took["lora_step"], "ratio")}

    yield "pcie", of_bus
    for tokens, model, limbs in itertools.product(sizes.tokens, sizes.shapes, WIDTHS):
        yield f"products {model} {tokens} {limbs}", lambda m=model, t=tokens, w=limbs: of_layer(m, t, w)  # type: ignore[misc]
    for hidden, layers in sizes.hidden:
        yield f"masked {hidden}", lambda h=hidden, n=layers: of_masked(h, n)  # type: ignore[misc]
    yield f"tail {sizes.model}", of_tail


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="begin nothing after so long")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes: only to see whether it runs")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here; nothing was measured.", file=sys.stderr)
        return NO_GPU
    began, sizes, left_out = time.monotonic(), TINY if options.tiny else FULL, []
    machine = Machine(options.device, sizes.repeats)
    for part, measure in parts(machine, sizes):
        if part != "pcie" and time.monotonic() - began > options.seconds:
            left_out.append(part)
            continue
        config: dict[str, Any] = {"part": part, "gpu": machine.name, "limit": options.seconds}
        for name, (value, unit) in measure().items():
            share = name == "gpu_share_of_pcie"
            line = {
                "figure": name,
                "value": round(value, 6),
                "unit": unit,
                "goal": SHARE_GOAL if share else None,
            }
            better = "higher" if share or unit == "GB/s" else "lower"
            print(json.dumps({**line, "better": better, "config": config}), flush=True)
    if left_out:
        print(f"No time was left for: {', '.join(left_out)}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
