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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

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
    at_once: int = 1

    @property
    def cut(self) -> int:
        """Layers of the front."""
        return self.layers - self.layers // 4


SHAPES = {
    "small": Shape(256, 8, 8, 2, 704, 32000, tokens=64),
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
PROCESSES = ("front", "streamed", "tail", "slice", "slice_behind_front", "inside")


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
    for name in ("tokenizer.json", "vocab.txt", "special_tokens_map.json"):
        if (words / name).is_file():
            shutil.copy(words / name, folder / name)
    known = json.loads((words / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**known, "eos_token": "[SEP]"}))


def pinned(folder: Path, shape: Shape) -> ModelSpec:
    """The checkpoint, as a manifest names it; the hashes are taken once."""
    from contracts.manifest import ModelSpec
    from enclave_host.pinning import pin

    kept = folder / "pins"
    if not kept.exists():
        kept.write_text(json.dumps(pin(folder)))
    files = json.loads(kept.read_text())
    return ModelSpec("random", "causal-lm", files, (), shape.tokens, template="plain")


def be(name: str, shape: Shape, folder: Path) -> None:
    """One of the processes, as JSON."""
    from enclave.slicing.eager import run_eagerly

    run_eagerly()  # as the programs do, before anything loads transformers
    from benchmarks.llm_processes import Measured
    from benchmarks.llm_processes import be as be_measured

    measured = Measured(folder, pinned(folder, shape), shape.rows, shape.cut, at_once=shape.at_once)
    print(json.dumps(be_measured(name, measured)))


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
            ("llm_peak", reported.get("peak", math.nan) / GIB, "GiB", goal),
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
