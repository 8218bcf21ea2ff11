"""Memory and time of language models of real shapes, with random weights: what each process takes.

    python -m benchmarks.llm [--shape 1.1B] [--folder FOLDER] [--process front tail]

Shapes: small, 1.1B (TinyLlama's), wide (two layers of 8B), 8B (Llama 3.1's). A checkpoint is made layer
by layer, in bf16, and pinned.
Then each process is one of its own and says its peak (VmHWM) and the CPU seconds of a step for 1,000 tokens:
the public front of the first three quarters of the layers (`front`; `streamed` reads a layer when its turn
comes), Method 2's tail behind it, tuned with SPF and LoRA (`tail`), and Method 1's masked client slice with
all layers (`slice`) and behind the front (`slice_behind_front`), whose accelerator is a process beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from contracts.manifest import ModelSpec

GIB = 1 << 30


@dataclass(frozen=True)
class Shape:
    """Of a Llama: numbers, and how many texts of how many tokens a step has."""

    hidden: int
    layers: int
    heads: int
    groups: int
    inner: int
    vocabulary: int
    rows: int = 4
    tokens: int = 256

    @property
    def cut(self) -> int:
        """Layers of the front."""
        return self.layers - self.layers // 4


SHAPES = {
    "small": Shape(256, 8, 8, 2, 704, 8000, tokens=64),
    "1.1B": Shape(2048, 22, 32, 4, 5632, 32000),
    "wide": Shape(4096, 2, 32, 8, 14336, 128256, rows=2, tokens=128),
    "8B": Shape(4096, 32, 32, 8, 14336, 128256, rows=2, tokens=128),
}
GOALS = {
    "1.1B": {"front": 2.5, "tail": 3.0, "slice": 1.6},
    "wide": {"slice": 3.0},
    "8B": dict.fromkeys(("streamed", "tail", "slice_behind_front"), 12.0),
}
"""GiB of peak memory."""


def make(shape: Shape, folder: Path) -> None:
    """One file for what stands beside the layers, and one a layer. Never more than one
    of them is in memory."""
    import torch
    from safetensors.torch import save_file

    from enclave_host import base_models

    draw, index = torch.Generator().manual_seed(0), {}

    def drawn(outputs: int, inputs: int) -> Tensor:
        made = torch.empty(outputs, inputs, dtype=torch.bfloat16)
        for rows in made.split(4096):
            rows.copy_(torch.randn(rows.shape, generator=draw) * 0.02)
        return made

    def put(file: str, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, folder / file, {"format": "pt"})
        index.update(dict.fromkeys(tensors, file))

    hidden, key = shape.hidden, shape.hidden // shape.heads * shape.groups
    ones = torch.ones(hidden, dtype=torch.bfloat16)
    table, output = (drawn(shape.vocabulary, hidden) for _ in range(2))
    beside = {"model.embed_tokens.weight": table, "model.norm.weight": ones.clone(), "lm_head.weight": output}
    put("model-00000.safetensors", beside)
    for number in range(shape.layers):
        place = f"model.layers.{number}."
        sizes = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (key, hidden),
                 "self_attn.v_proj": (key, hidden), "self_attn.o_proj": (hidden, hidden),
                 "mlp.gate_proj": (shape.inner, hidden), "mlp.up_proj": (shape.inner, hidden),
                 "mlp.down_proj": (hidden, shape.inner)}  # fmt: skip
        tensors = {f"{place}{name}.weight": drawn(*size) for name, size in sizes.items()}
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{place}{name}.weight"] = ones.clone()
        put(f"model-{number + 1:05d}.safetensors", tensors)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": shape.inner, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.groups,
        "vocab_size": shape.vocabulary, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.02,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    words = base_models.resolve(base_models.EMBEDDED)  # a tokenizer that nobody asks
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (words / name).is_file():
            shutil.copy(words / name, folder / name)


def pinned(folder: Path, shape: Shape) -> ModelSpec:
    """The checkpoint, as a manifest names it; the hashes are taken once."""
    from contracts.manifest import ModelSpec
    from enclave_host.pinning import pin

    kept = folder / "pins"
    if not kept.exists():
        kept.write_text(json.dumps(pin(folder)))
    return ModelSpec("random", "causal-lm", json.loads(kept.read_text()), (), shape.tokens)


def front(shape: Shape, folder: Path, room: int | None = None) -> float:
    """CPU seconds of the public front over a step's texts."""
    from enclave.slicing.halves import open_front

    half, _ = open_front(folder, pinned(folder, shape), shape.cut, room=room)
    return _warm(lambda: half(*_texts(shape)))


def tail(shape: Shape, folder: Path) -> float:
    """CPU seconds of a step of Method 2's tail."""
    import torch

    from contracts.manifest import Spf
    from enclave.slicing.halves import open_tail
    from enclave.slicing.spf import tune

    half = open_tail(folder, pinned(folder, shape), shape.cut).tail
    tune(half, Spf(25.0, 25.0, lora=("attention_output",), rank=8, alpha=16), 1)
    features = torch.randn(shape.rows, shape.tokens, shape.hidden)
    return _warm(_step(half, shape, {"features": features}))


def masked(shape: Shape, folder: Path, first: int) -> float:
    """CPU seconds, of both processes, of a step of a masked client slice; pads are made before."""
    import torch

    from benchmarks.masking import accelerator, cpu_of
    from contracts.manifest import Lora
    from enclave.masking.channel import MaskedChannel
    from enclave.slicing.cut import open_cut
    from enclave.slicing.placement import Shape as Batch
    from enclave.slicing.placement import offload

    with tempfile.TemporaryDirectory(prefix="fedslice-bench-", dir=folder) as own:
        store, channel = Path(own) / "store", Path(own) / "channel"
        opened = open_cut(folder, pinned(folder, shape), Lora(8, 16, ("q_proj", "v_proj")), 1, store, first)
        with accelerator(store, channel, 1) as (_, process):
            placed = offload(opened.cut, MaskedChannel(channel), Path(own) / "pads")
            inputs = {"input_ids": _texts(shape)[0]}
            if first:
                inputs = {"features": torch.randn(shape.rows, shape.tokens, shape.hidden)}
            step = _step(opened.cut.model, shape, inputs)
            batch = Batch(shape.rows, shape.tokens, backward=True)
            return _warm(step, lambda: cpu_of(process), lambda: placed.begin_round(1, [batch]))


def _texts(shape: Shape) -> tuple[Tensor, Tensor]:
    import torch

    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(1000, shape.vocabulary, (shape.rows, shape.tokens), generator=draw)
    return ids, torch.ones_like(ids)


def _step(model: nn.Module, shape: Shape, inputs: dict[str, Tensor]) -> Callable[[], None]:
    """A training step; a fourth of each text is an answer."""
    import torch

    from enclave.training.answers import IGNORED
    from enclave.training.loop import batch_logits, batch_loss

    ids, mask = _texts(shape)
    targets = ids.clone()
    targets[:, : -shape.tokens // 4] = IGNORED
    batch: Any = argparse.Namespace(inputs={**inputs, "attention_mask": mask}, targets=targets)
    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(tuned, lr=1e-4, weight_decay=0.0)

    def step() -> None:
        batch_loss(batch_logits(model, batch, torch.device("cpu")), batch)[0].backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _warm(
    call: Callable[[], object],
    elsewhere: Callable[[], float] = lambda: 0.0,
    before: Callable[[], object] = lambda: 0,
) -> float:
    """CPU seconds of the second of two calls."""
    for _ in range(2):
        before()
        started = time.process_time() + elsewhere()
        call()
    return time.process_time() + elsewhere() - started


PROCESSES: dict[str, Callable[[Shape, Path], float]] = {
    "front": front,
    "streamed": lambda shape, folder: front(shape, folder, room=0),
    "tail": tail,
    "slice": lambda shape, folder: masked(shape, folder, 0),
    "slice_behind_front": lambda shape, folder: masked(shape, folder, shape.cut),
}


def be(name: str, shape: Shape, folder: Path) -> None:
    """One of the processes: its peak and its step, as JSON."""
    import torch

    from enclave.slicing.memory import peak_memory, return_large_blocks

    torch.set_num_threads(1)
    return_large_blocks()
    seconds = PROCESSES[name](shape, folder)
    print(json.dumps({"peak": peak_memory() / GIB, "seconds": 1000 * seconds / (shape.rows * shape.tokens)}))


def figures(name: str, folder: Path, processes: list[str]) -> Iterator[dict[str, Any]]:
    """Of each process; one that fails says so in place of its figures."""
    shape = SHAPES[name]
    for process in processes:
        command = [sys.executable, "-m", "benchmarks.llm", "--shape", name, "--folder", str(folder)]
        done = subprocess.run([*command, "--be", process], capture_output=True, text=True, check=False)
        reported = json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {}
        if not reported:
            print(done.stderr[-1000:], file=sys.stderr)
        config = {"shape": name, "process": process, "cut": shape.cut, "rows": shape.rows,
                  "tokens": shape.tokens, "threads": 1, "tee": "none"}  # fmt: skip
        goal = GOALS.get(name, {}).get(process)
        for figure, value, unit, wanted in (
            ("llm_peak", reported.get("peak", math.nan), "GiB", goal),
            ("llm_cpu_per_1000_tokens", reported.get("seconds", math.nan), "s", None),
        ):
            line = {"figure": figure, "value": round(value, 3), "unit": unit, "goal": wanted}
            yield {**line, "better": "lower", "config": config}


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm", description=main.__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="1.1B")
    parser.add_argument("--folder", type=Path, help="where the checkpoint lies, or is to be made and kept")
    parser.add_argument("--process", nargs="+", choices=PROCESSES, default=list(PROCESSES))
    parser.add_argument("--be", choices=PROCESSES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    shape = SHAPES[options.shape]
    if options.be:
        be(options.be, shape, options.folder)
        return 0
    with tempfile.TemporaryDirectory(prefix="fedslice-llm-") as own:
        folder = options.folder or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "config.json").exists():
            make(shape, folder)
        for line in figures(options.shape, folder, options.process):
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
