"""How much memory a client slice takes: MiniLM with LoRA, real rows, in a process of its own.

    python -m benchmarks.slice_memory [--placement all_in_tee masked] [--batch 16] [--tokens 128]

Each placement's process says how large it was after each step of its work; `heap` is what it had allocated,
the rest are pages of libraries (which an enclave has to load as well).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from benchmarks.masking import accelerator
from contracts.row_writing import write_row
from contracts.rows import TextLabel

ROWS = {"train": 64, "validation": 32, "test": 2}


def _status(name: str) -> int:
    """Bytes, from the kernel's own books."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1024


def measure(placement: str, batch: int, tokens: int, folder: Path) -> None:
    """Be a client slice for one round, and print its size on the way, one JSON object a line."""

    def tell(stage: str) -> None:
        held = {"stage": stage, "now": _status("VmRSS"), "heap": _status("RssAnon"), "peak": _status("VmHWM")}
        print(json.dumps(held), flush=True)

    import torch

    from contracts.manifest import Aggregation, DatasetRef, Lora, Masking, ModelSpec, Publication, Training
    from enclave.programs.learner import load_learner
    from enclave.programs.mailbox import PREPARED
    from enclave.slicing.memory import return_large_blocks
    from enclave_host import base_models
    from enclave_host.pinning import pin
    from enclave_host.preparing import prepare_in_child
    from site_agent.datasets.card import content_digest

    tell("imports")
    torch.set_num_threads(1)
    return_large_blocks()
    source = base_models.resolve(base_models.EMBEDDED)
    spec = ModelSpec(base_models.EMBEDDED, "sequence-classification", pin(source), ("a", "b"), tokens)
    # What a learner asks of a manifest; who takes part and what is released is nothing to it.
    prepared: Any = msgspec.UNSET
    if placement == "masked":
        (folder / PREPARED).parent.mkdir()
        prepared = prepare_in_child(source, spec.files, spec.task, folder / PREPARED)
    rows, key = _rows(folder / "rows.jsonl", tokens), bytes(32)
    number = len(rows.read_bytes().splitlines())
    dataset = DatasetRef("notes", content_digest(rows, key), number)
    manifest: Any = SimpleNamespace(
        site=lambda _site: SimpleNamespace(dataset=dataset),
        model=spec,
        adapter=Lora(8, 16, ("query", "value")),
        training=Training(rounds=1, local_epochs=1, batch_size=batch, learning_rate=1e-3, seed=1),
        aggregation=Aggregation("fedavg", 1, 60),
        masking=Masking(prepared=prepared) if placement == "masked" else None,
        front=None,
        coded=None,
        publication=Publication(),
    )
    (folder / "out").mkdir()
    learner = load_learner(manifest, "site", source, rows, key, folder)
    learner.start_from(None)
    tell("opened")
    if placement == "masked":
        with accelerator(folder / PREPARED, folder / "channel", 1) as (channel, _):
            learner.placement.accelerate(channel, 1 << 40)
            _round(learner, tell)
    else:
        _round(learner, tell)


def _round(learner: Any, tell: Any) -> None:
    learner.get_ready(1, "update", lambda _news: None)
    tell("pads made")
    learner.evaluate("update", lambda _news: None)
    tell("evaluated")
    learner.train(1, lambda _news: None)
    tell("trained")


def _rows(file: Path, tokens: int) -> Path:
    draw = random.Random(1)
    words = ["patient", "chest", "pain", "asks", "letter", "about", "the", "morning"]
    lines = [
        write_row(TextLabel(" ".join(draw.choices(words, k=draw.randint(tokens // 6, tokens))), label, split))
        for split, count in ROWS.items()
        for label in ("a", "b") * (count // 2)
    ]
    file.write_bytes(b"".join(lines))
    return file


def main(arguments: list[str] | None = None) -> int:
    """Print the figures of each placement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slice_memory", description=main.__doc__)
    placements = ("all_in_tee", "masked")
    parser.add_argument("--placement", nargs="+", choices=placements, default=placements)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--slice", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.slice:
        measure(options.placement[0], options.batch, options.tokens, options.slice)
        return 0
    for placement in options.placement:
        config = {"placement": placement, "batch": options.batch, "tokens": options.tokens, "model": "MiniLM"}
        with tempfile.TemporaryDirectory(prefix="fedslice-bench-") as folder:
            size = ("--batch", str(options.batch), "--tokens", str(options.tokens))
            command = [sys.executable, "-m", "benchmarks.slice_memory", "--placement", placement, *size]
            reported = subprocess.run(
                [*command, "--slice", folder], check=True, capture_output=True, text=True
            )
        for line in map(json.loads, reported.stdout.splitlines()):
            for kind in ("now", "heap", "peak"):
                figure = {
                    "figure": f"slice_memory_{kind}",
                    "value": line[kind],
                    "unit": "bytes",
                    "goal": None,
                }
                stage = {**config, "stage": line["stage"]}
                print(json.dumps({**figure, "better": "lower", "config": stage}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
