"""Memory and time of language models of real shapes, with random weights: what each process takes.

    python -m benchmarks.llm [--shape 1.1B wide] [--folder FOLDER] [--process front tail]

Shapes: small, medium and broad (by which the wizard's estimates are tested), 1.1B (TinyLlama's), wide (two
layers of 8B), 8B (Llama 3.1's, 16 GB on disk). A checkpoint is made layer by layer, in bf16, and pinned.
Then each process is one of its own, as the programs build it (llm_processes.py), and says its peak (VmHWM)
and the CPU seconds of a step for 1,000 tokens: the public front of three quarters of the layers (`front`;
`streamed` reads a layer when its turn comes), Method 2's tail of the last quarter, tuned with SPF and LoRA
(`tail`), Method 1's masked client slice with all layers (`slice`) and behind a front
(`slice_behind_front`), whose accelerator is a process beside it, and one with everything inside (`inside`).
Of 8B the tail has four layers and the slice behind a front two. `llm_estimate_over_peak` is what the wizard
says of each. `study` is a whole study of Method 2: three sites with eight texts to train on each, one round,
through agents and coordinator (llm_study.py).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from contracts.manifest import ModelSpec

GIB = 1 << 30


@dataclass(frozen=True)
class Shape:
    """Of a Llama: numbers, how many texts of how many tokens a step has, how many of them go through
    `at_once` (0: all), how many layers the tail and the slice behind a front have (0: a quarter), and whether
    `whole` texts are learnt or a fourth of each."""

    hidden: int
    layers: int
    heads: int
    groups: int
    inner: int
    vocabulary: int
    rows: int = 4
    tokens: int = 256
    at_once: int = 1
    tail: int = 0
    masked: int = 0
    whole: bool = False

    def cut(self, process: str) -> int:
        """Layers before those that the process has."""
        behind = {"tail": self.tail, "slice_behind_front": self.masked}.get(process, 0)
        return self.layers - (behind or self.layers // 4)


SHAPES = {
    "small": Shape(256, 8, 8, 2, 704, 32000, tokens=64, at_once=0, whole=True),
    "medium": Shape(1024, 6, 16, 4, 2816, 32000, tokens=128, at_once=2, whole=True),
    "broad": Shape(2048, 6, 32, 4, 5632, 32000),
    "1.1B": Shape(2048, 22, 32, 4, 5632, 32000),
    "wide": Shape(4096, 2, 32, 8, 14336, 128256, rows=2, tokens=128, tail=1, masked=1),
    "8B": Shape(4096, 32, 32, 8, 14336, 128256, rows=2, tokens=128, tail=4, masked=2),
}
GOALS = {
    "1.1B": {"front": 2.5, "tail": 3.0, "slice": 1.6},
    "wide": {"slice": 3.0},
    "8B": dict.fromkeys(("streamed", "tail", "slice_behind_front"), 12.0),
}
"""GiB of peak memory."""
PROCESSES = ("front", "streamed", "tail", "slice", "slice_behind_front", "inside")
STUDY = "study"
BELONG = {"wide": ("slice",), "8B": ("streamed", "tail", "slice_behind_front")}
"""What is measured of a shape, where that is not all."""
WITHIN = (0.8, 1.2)
"""An estimate over its measured peak."""


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
    template: Any = None if shape.whole else "plain"
    return ModelSpec("random", "causal-lm", files, (), shape.tokens, template=template)


def be(name: str, shape: Shape, folder: Path, cut: int) -> None:
    """One of the processes, as JSON."""
    from enclave.slicing.eager import run_eagerly

    run_eagerly()  # as the programs do, before anything loads transformers
    from benchmarks.llm_processes import Measured
    from benchmarks.llm_processes import be as be_measured

    spec = pinned(folder, shape)
    measured = Measured(folder, spec, shape.rows, cut, at_once=shape.at_once, whole=shape.whole)
    print(json.dumps(be_measured(name, measured)))


def measured_alone(name: str, process: str, folder: Path) -> dict[str, float]:
    """A process of its own: its peak in bytes, and CPU seconds; nothing where it failed, and then why."""
    cut = SHAPES[name].cut(process)
    if process == "slice_behind_front" and not (folder / f"features-{cut}-{SHAPES[name].rows}.bf16").exists():
        _child(name, "streamed", folder, cut)  # the features come from a front, which is no part of the slice
    return _child(name, process, folder, cut)


def _child(name: str, process: str, folder: Path, cut: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.llm", "--shape", name, "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--be", process, "--cut", str(cut), "--at-once", str(SHAPES[name].at_once)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stderr[-1000:], file=sys.stderr)
        return {}
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def estimated(shape: Shape, process: str) -> int:
    """What the wizard says of the process, in bytes."""
    from benchmarks.llm_processes import LORA, SPF
    from federation.studies import memory
    from federation.studies.workload import HALF, Workload, layer_weights, trained_parameters

    config = argparse.Namespace(
        model_type="llama", hidden_size=shape.hidden, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.groups, intermediate_size=shape.inner,
        vocab_size=shape.vocabulary,
    )  # fmt: skip
    tail = process in ("front", "streamed", "tail")
    work = Workload(
        method="method-2" if tail else "method-1", placement="all_in_tee" if tail else "masked",
        runtime="development", adapter=SPF if tail else LORA,
        cut=0 if process in ("slice", "inside") else shape.cut(process), checkpointing=False, labels=0,
        tokens=shape.tokens, batch=shape.rows, rounds=1, epochs=1, rows=(shape.rows,), at_once=shape.at_once,
        held=HALF, learnt=1.0 if shape.whole else 0.25,
    )  # fmt: skip
    if process in ("front", "streamed"):
        return memory.front_bytes(config, work, streamed=process == "streamed")
    trained = trained_parameters(config, work)[0]
    if process == "tail":
        return memory.tail_bytes(config, work, trained)
    if process == "inside":
        parameters = shape.layers * layer_weights(config) + 2 * shape.vocabulary * shape.hidden
        return memory.whole_bytes(config, parameters, work, trained)
    return memory.masked_bytes(config, work, trained)


def figures(name: str, folder: Path, processes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Of each process; one that fails says so in place of its figures."""
    shape = SHAPES[name]
    for process in processes:
        if process == STUDY:
            from benchmarks.llm_study import study_figures

            yield from study_figures(name, folder, shape.layers - shape.layers // 4)
            continue
        reported = measured_alone(name, process, folder)
        config = {"shape": name, "process": process, "cut": shape.cut(process), "rows": shape.rows,
                  "tokens": shape.tokens, "at_once": shape.at_once, "threads": 1, "tee": "none"}  # fmt: skip
        peak = reported.get("peak", math.nan)
        for figure, value, unit, goal in (
            ("llm_peak", peak / GIB, "GiB", GOALS.get(name, {}).get(process)),
            ("llm_cpu_per_1000_tokens", reported.get("seconds", math.nan), "s", None),
            ("llm_estimate_over_peak", estimated(shape, process) / peak, "ratio", WITHIN[1]),
        ):
            line = {"figure": figure, "value": round(value, 3), "unit": unit, "goal": goal}
            yield {**line, "better": "lower", "config": config}


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm", description=main.__doc__)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["1.1B", "wide"])
    parser.add_argument("--folder", type=Path, help="where checkpoints lie, or are to be made and kept")
    parser.add_argument(
        "--process", nargs="+", choices=(*PROCESSES, STUDY), help="all that belong to a shape"
    )
    parser.add_argument("--at-once", type=int, help="texts that go through a model together (0: all)")
    parser.add_argument("--be", choices=PROCESSES, help=argparse.SUPPRESS)
    parser.add_argument("--cut", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in options.shape if options.at_once is not None else ():
        SHAPES[name] = replace(SHAPES[name], at_once=options.at_once)
    if options.be:
        be(options.be, SHAPES[options.shape[0]], options.folder, options.cut)
        return 0
    for name in options.shape:
        with tempfile.TemporaryDirectory(prefix="fedslice-llm-") as own:
            folder = (options.folder or Path(own)) / name
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "config.json").exists():
                make(SHAPES[name], folder)
            for line in figures(name, folder, options.process or BELONG.get(name, (*PROCESSES, STUDY))):
                print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
