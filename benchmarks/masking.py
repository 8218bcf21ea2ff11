"""What masking costs: one training step of a transformer with LoRA, computed in six ways, interleaved.

    python -m benchmarks.masking [--hidden 384 1024 …] [--quick] [--repeats N] [--threads N] [--products]

For each hidden size a random BERT encoder (MiniLM's shape at 384; as many layers as fit) takes 256 tokens
through forward, backward and AdamW:

    fp32       plaintext, float32; all_in_tee is the same work, timed again (this machine has no TEE)
    bf16       plaintext, everything in bfloat16
    quantised  int8 weights and 16-bit features at hand, without masks
    online     masked: pads from the vault, a real accelerator process, Freivalds on
    offline    making the pads of one step

All are timed in turn within one loop, so a busy machine slows all of them; figures are medians. The peak
memory of the enclave is that of a process of its own, which opens the model from its files and takes two
steps. `--products` instead prints what a layer's products alone cost in CPU time, which a busy machine
changes little: it bounds what the steps can reach. After the hidden sizes come benchmarks/public_front.py's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, BertConfig

from contracts.manifest import Lora, ModelSpec
from enclave.masking import integrity
from enclave.masking.channel import Channel
from enclave.masking.engine import UnmaskedEngine
from enclave.masking.layers import Store
from enclave.masking.masks import Index, Masks
from enclave.masking.ring import FLIP, LIMBS, Buffers, Limbs
from enclave.slicing import models
from enclave.slicing.adapters import adapt
from enclave.slicing.cut import Cut, cut, open_cut
from enclave.slicing.memory import peak_memory
from enclave.slicing.placement import Shape, put_out
from enclave_host import base_models

ROWS, TOKENS, VOCABULARY = 4, 64, 1000
LAYERS = {384: 6, 1024: 4, 2048: 2, 4096: 1}
LORA = Lora(8, 16, ("query", "value"))
AREA = 64 << 20
GOALS: dict[str, Callable[[int], float | None]] = {
    "masked_online_over_fp32": lambda hidden: 0.7 if hidden < 1024 else 0.5,
    "masked_online_over_bf16": lambda hidden: 1.3 if hidden >= 2048 else None,
    "masked_total_over_fp32": lambda hidden: 0.9 if hidden >= 2048 else None,
    "mask_work_over_fp32": lambda hidden: 0.02 if hidden >= 2048 else None,
    "integrity_over_fp32": lambda hidden: 0.01 if hidden >= 2048 else None,
    "masked_online_over_all_in_tee": lambda hidden: None,
}


def encoder(hidden: int, layers: int) -> nn.Module:
    """A random BERT classifier: 64 numbers a head (32 at 384, as MiniLM), inner size 4·hidden."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // (32 if hidden < 768 else 64),
        intermediate_size=4 * hidden,
        vocab_size=VOCABULARY,
        max_position_embeddings=128,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
    )
    return AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()


def stepper(model: nn.Module) -> Callable[[], None]:
    """One training step on a fixed batch."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCABULARY, (ROWS, TOKENS), generator=generator)
    targets, mask = torch.arange(ROWS) % 3, torch.ones_like(ids)

    def step() -> None:
        logits = model(input_ids=ids, attention_mask=mask).logits
        nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


@contextmanager
def accelerator(store: Path, channel: Path, threads: int) -> Iterator[Path]:
    """A real accelerator process on the CPU."""
    command = [sys.executable, "-m", "enclave_host.accelerator", "--device", "cpu", "--area", str(AREA)]
    process = subprocess.Popen(
        [*command, "--weights", str(store), "--channel", str(channel)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stderr=subprocess.DEVNULL,
    )
    try:
        while not channel.exists():
            if process.poll() is not None:
                raise SystemExit("the accelerator did not start")
            time.sleep(0.05)
        yield channel
    finally:
        process.terminate()
        process.wait()


def timed(call: Callable[[], Any]) -> float:
    """Wall-clock seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(hidden: int, layers: int, repeats: int, threads: int, folder: Path) -> dict[str, float]:
    """Medians in seconds, bytes of a step, and memory."""
    plain = stepper(adapt(encoder(hidden, layers), LORA, 1))
    half = stepper(adapt(encoder(hidden, layers), LORA, 1).to(torch.bfloat16))
    quantised_cut, masked_cut = (
        cut(encoder(hidden, layers), LORA, 1, Store(folder / name)) for name in ("quantised", "masked")
    )
    quantised_cut.attach(UnmaskedEngine(quantised_cut.store))
    quantised = stepper(quantised_cut.model)
    with accelerator(folder / "masked", folder / "channel", threads) as channel:
        times = _interleave(masked_cut, channel, folder, repeats, {
            "fp32": plain, "all_in_tee": plain, "bf16": half, "quantised": quantised,
        })  # fmt: skip
    return {name: statistics.median(values) for name, values in times.items()}


def _interleave(
    masked_cut: Cut, channel: Path, folder: Path, repeats: int, others: dict[str, Callable[[], None]]
) -> dict[str, list[float]]:
    masked = put_out(masked_cut, Channel(channel), folder / "vault")
    step, shape = stepper(masked_cut.model), Shape(ROWS, TOKENS, backward=True)
    times: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        times.setdefault(name, []).append(value)

    for repeat in range(-2, repeats):
        before = masked.measures()
        offline = timed(lambda: masked.begin_round(1, [shape]))
        online = timed(step)
        after = masked.measures()
        rest = {name: timed(other) for name, other in others.items()}
        if repeat < 0:  # warm-up
            continue
        assert after["pads_inline"] == 0
        add("offline", offline)
        add("online", online)
        for stage in ("mask", "integrity", "wait"):
            add(stage, after[f"{stage}_seconds"] - before[f"{stage}_seconds"])
        add("bytes", float(sum(after[key] - before[key] for key in ("bytes_out", "bytes_back"))))
        for name, value in rest.items():
            add(name, value)
    return times


def products(hidden: int) -> dict[str, float]:
    """CPU seconds of all frozen products of a layer, forward and backward, the best of several calls each;
    and of what the enclave does for them."""
    total: dict[str, float] = {}
    shapes = ((3 * hidden, hidden), (hidden, hidden), (4 * hidden, hidden), (hidden, 4 * hidden))
    rows, masks, limbs, buffers = ROWS * TOKENS, Masks(), Limbs(), Buffers()
    for outputs, inputs in shapes:
        for outer, inner in ((outputs, inputs), (inputs, outputs)):
            features, weight = torch.randn(rows, inner), torch.randn(outer, inner)
            half, weight_half = features.bfloat16(), weight.bfloat16()
            values = torch.randint(-127, 128, (outer, inner), dtype=torch.int8)
            fixed = torch.randint(-500, 500, (rows, inner), dtype=torch.int32)
            exact = torch.empty(rows, outer, dtype=torch.int32)
            words, secret = torch.empty_like(fixed), integrity.draw(values, 1)
            planes = torch.randint(-128, 127, (LIMBS * rows, inner), dtype=torch.int8)
            sums = torch.empty(LIMBS * rows, outer, dtype=torch.int32)
            sealed = AESGCM(bytes(32)).encrypt(bytes(12), bytes(4 * rows * outer), None)
            plain = bytearray(4 * rows * outer)

            def mask(inner: int = inner, fixed: Tensor = fixed, words: Tensor = words) -> None:
                masked = masks.words(Index(1, 1, 1), 0, rows, inner).add_(fixed)
                torch.bitwise_xor(masked, FLIP, out=words)

            calls: dict[str, Callable[[], object]] = {
                "fp32": lambda a=features, b=weight: a @ b.t(),
                "bf16": lambda a=half, b=weight_half: a @ b.t(),
                "four_limbs": lambda w=words, v=values, e=exact: limbs.multiply(w, v, e),
                "bare_int8_of_four": lambda p=planes, v=values, s=sums: torch._int_mm(p, v.t(), out=s),
                "bare_int8_of_three": lambda p=planes, v=values, s=sums: torch._int_mm(
                    p[: 3 * rows], v.t(), out=s[: 3 * rows]
                ),
                "mask": mask,
                "unseal": lambda s=sealed, p=plain: AESGCM(bytes(32)).decrypt_into(bytes(12), s, None, p),
                "unmask": lambda e=exact: torch.sub(e, e, out=e),
                "integrity": lambda s=secret, f=fixed, e=exact: integrity.holds(s, f, e, buffers),
            }
            for name, call in calls.items():
                total[name] = total.get(name, 0.0) + _cpu(call)
    return total


def _cpu(call: Callable[[], object]) -> float:
    times = []
    for _ in range(6):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times[1:])


def memory(hidden: int, layers: int, folder: Path) -> dict[str, float]:
    """Bytes: the checkpoint's size, and the peak of an enclave process before and after it opened the model,
    made the pads of a step and trained two."""
    saved = folder / "saved"
    encoder(hidden, layers).save_pretrained(saved)
    tokenizer = base_models.resolve(base_models.EMBEDDED)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (tokenizer / name).is_file():
            (saved / name).write_bytes((tokenizer / name).read_bytes())
    command = [sys.executable, "-m", "benchmarks.masking", "--enclave", str(folder)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    peak: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return peak | {"model": float(sum(file.stat().st_size for file in saved.glob("*.safetensors")))}


def enclave(folder: Path) -> None:
    """The process whose memory is measured."""
    bare = peak_memory()
    saved = folder / "saved"
    spec = ModelSpec("saved", "sequence-classification", models.pin(saved), ("a", "b", "c"), 64)
    opened = open_cut(saved, spec, LORA, 1, folder / "opened")
    with accelerator(folder / "opened", folder / "second", 1) as channel:
        masked = put_out(opened.cut, Channel(channel), folder / "pads")
        step = stepper(opened.cut.model)
        masked.begin_round(1, [Shape(ROWS, TOKENS, backward=True)])
        step()
        step()
    print(json.dumps({"bare": bare, "peak": peak_memory()}))


def lines(seconds: dict[str, float], held: dict[str, float], config: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of one hidden size."""
    fp32, hidden = seconds["fp32"], config["hidden"]
    ratios = {
        "masked_online_over_fp32": seconds["online"] / fp32,
        "masked_online_over_bf16": seconds["online"] / seconds["bf16"],
        "masked_total_over_fp32": (seconds["online"] + seconds["offline"]) / fp32,
        "mask_work_over_fp32": seconds["mask"] / fp32,
        "integrity_over_fp32": seconds["integrity"] / fp32,
        "masked_online_over_all_in_tee": seconds["online"] / seconds["all_in_tee"],
    }
    figures = [(name, value, "ratio", GOALS[name](hidden)) for name, value in ratios.items()]
    for name in ("online", "offline", "all_in_tee", "fp32", "bf16", "quantised", "mask", "integrity", "wait"):
        figures.append((f"step_{name}", seconds[name], "s", None))
    figures.append(("accelerator_bytes", seconds["bytes"], "bytes", None))
    if held:
        figures.append(("tee_peak_memory", held["peak"], "bytes", None))
        figures.append(("tee_memory_before_the_model", held["bare"], "bytes", None))
        figures.append(("model_size", held["model"], "bytes", None))
    return [
        {
            "figure": name,
            "value": round(value, 6),
            "unit": unit,
            "goal": goal,
            "better": "lower",
            "config": config,
        }
        for name, value, unit, goal in figures
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, one JSON object a line, then a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masking", description=main.__doc__)
    parser.add_argument("--hidden", type=int, nargs="+", default=[*LAYERS], choices=[*LAYERS])
    parser.add_argument("--quick", action="store_true", help="384 and 1024, one layer each, few repeats")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1, help="for each process; they work in turn")
    parser.add_argument("--products", action="store_true", help="CPU time of the products alone")
    parser.add_argument("--enclave", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.enclave:
        enclave(options.enclave)
        return 0
    if options.products:
        for hidden in options.hidden:
            config = {"hidden": hidden, "tokens": ROWS * TOKENS, "threads": options.threads, "layers": 1}
            for name, value in products(hidden).items():
                figure = {"figure": f"products_{name}", "value": round(value, 6), "unit": "s", "goal": None}
                print(json.dumps({**figure, "better": "lower", "config": config}), flush=True)
        return 0
    sizes = [hidden for hidden in options.hidden if not options.quick or hidden <= 1024]
    done = []
    for hidden in sizes:
        layers = 1 if options.quick else LAYERS[hidden]
        repeats = min(options.repeats, 5) if options.quick else options.repeats
        config = {
            "hidden": hidden,
            "layers": layers,
            "tokens": ROWS * TOKENS,
            "lora": LORA.rank,
            "threads": options.threads,
            "repeats": repeats,
            "accelerator": "cpu",
            "tee": "none",
        }
        with tempfile.TemporaryDirectory(prefix="fedslice-bench-", dir=room()) as folder:
            seconds = measure(hidden, layers, repeats, options.threads, Path(folder))
            held = memory(hidden, layers, Path(folder))
        for line in lines(seconds, held, config):
            print(json.dumps(line), flush=True)
            done.append(line)
    from benchmarks import public_front

    for line in public_front.figures(options.repeats, options.threads, quick=options.quick):
        print(json.dumps(line), flush=True)
        done.append(line)
    _table(done)
    return 0


def room() -> str | None:
    """Shared memory for the channel, as in the product, where the machine has it."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _table(done: list[dict[str, Any]]) -> None:
    print(f"\n{'figure':34} {'hidden, k':>9} {'value':>16} {'goal':>6}  met")
    for line in done:
        goal = line["goal"]
        met = "" if goal is None else ("yes" if line["value"] <= goal else "no")
        value = (
            f"{line['value']:.3f} {line['unit']}"
            if line["unit"] != "bytes"
            else f"{line['value'] / 1e6:.1f} MB"
        )
        size = f"{line['config']['hidden']} {line['config'].get('k', '')}"
        print(f"{line['figure']:34} {size:>9} {value:>16} {goal or '':>6}  {met}")


if __name__ == "__main__":
    sys.exit(main())
