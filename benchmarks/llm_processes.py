"""What `benchmarks.llm` measures: each process of a run as the programs build it, with rows of full length.

Every one trains (or, of a front, computes) a batch of texts twice, after it was scored on as many, and
says its peak (VmHWM) and the CPU seconds of the second time for 1,000 tokens.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from msgspec import UNSET

from contracts.manifest import (
    DatasetRef,
    Lora,
    Masking,
    ModelSpec,
    Publication,
    PublicFront,
    Spf,
    Split,
    Training,
)
from contracts.row_writing import write_row
from contracts.rows import PromptResponse, Row, TextLabel, WholeText
from enclave.masking.layers import INDEX
from enclave.programs.mailbox import PREPARED
from enclave.slicing.memory import peak_memory, return_large_blocks
from enclave_host.preparing import prepare_in_child

LORA = Lora(8, 16, ("q_proj", "v_proj"))
SPF = Spf(25.0, 25.0, lora=("attention_output",), rank=8, alpha=16)
KEY = bytes(32)


@dataclass(frozen=True)
class Measured:
    """A model in `folder` and what is done with it: a batch of `rows` texts of as many tokens as `spec` takes
    at most, in layers from number `cut` on; `at_once` as in a manifest; all of a text is learnt, where it is
    `whole`, else a fourth."""

    folder: Path
    spec: ModelSpec
    rows: int
    cut: int
    checkpointing: bool = False
    at_once: int = 0
    whole: bool = False


def front(measured: Measured, own: Path, room: int | None = None) -> float:
    """The public front, as a site's agent runs it."""
    from enclave.slicing.halves import open_front
    from enclave.training.row_reader import encode, read_rows
    from site_agent.methods.fronts import BATCH
    from site_agent.methods.method_1.features import feature_bytes
    from site_agent.methods.shard_making import compute

    half, tokenizer = open_front(measured.folder, measured.spec, measured.cut, room=room)
    rows, made = read_rows(_rows(measured, own), measured.spec, _kind(measured)), []
    for part in (rows.validation, rows.test, rows.train):
        examples = encode(part, tokenizer, measured.spec)
        started = time.process_time()
        made.append(compute(half, examples, range(len(examples)), BATCH).features)
    scored, tested, trained = (bytes(feature_bytes(features)) for features in made)
    _features(measured).write_bytes(trained + scored + tested)
    return time.process_time() - started


def tail(measured: Measured, own: Path) -> float:
    """Method 2's tail in the split server."""
    from enclave.programs.tail import load_tail
    from enclave.training.data import IGNORED
    from enclave.training.features import Shard

    learner = load_tail(_manifest(measured, own, split=True), measured.folder)
    learner.start_from(None)

    def shard(rows: int) -> Shard:
        tokens = measured.spec.max_tokens
        labels = torch.full((rows, tokens), IGNORED, dtype=torch.int32)
        labels[:, 0 if measured.whole else -tokens // 4 :] = 1000
        if measured.spec.labels:
            labels = torch.zeros(rows, 1, dtype=torch.int32)
        features = torch.randn(rows * tokens, learner.config.hidden_size).to(torch.bfloat16)
        return Shard(features, torch.full((rows,), tokens, dtype=torch.int32), labels.flatten())

    learner.evaluate([shard(measured.rows)], _nobody)
    shards = {"site": [shard(measured.rows)]}
    return _warm(lambda: learner.train(1, shards, _nobody))


def client_slice(measured: Measured, own: Path, masked: bool, first: int = 0) -> float:
    """A client slice, masked or with everything inside; behind a public front of `first` layers."""
    from benchmarks.masking import accelerator, cpu_of
    from enclave.programs.learner import load_learner

    if masked:
        (own / PREPARED).parent.mkdir()
        (own / PREPARED).symlink_to(_prepared(measured)[1])
    manifest = _manifest(measured, own, masked=masked, first=first)
    rows, features = _rows(measured, own), _features(measured) if first else None
    learner = load_learner(manifest, "site", measured.folder, rows, KEY, own, features)
    learner.start_from(None)
    if learner.front is not None:
        learner.front.look(1, _nobody)
    if not masked:
        learner.evaluate("update", _nobody)
        return _warm(lambda: learner.train(1, _nobody))
    with accelerator(own / PREPARED, own / "channel", 1, first=first) as (channel, process):
        learner.placement.accelerate(channel, 1 << 40)
        learner.get_ready(1, "update", _nobody)
        learner.evaluate("update", _nobody)
        learner.train(1, _nobody)
        started = time.process_time() + cpu_of(process)
        learner.train(1, _nobody)
        return time.process_time() + cpu_of(process) - started


PROCESSES: dict[str, Callable[[Measured, Path], float]] = {
    "front": front,
    "streamed": lambda measured, own: front(measured, own, room=0),
    "tail": tail,
    "inside": lambda measured, own: client_slice(measured, own, masked=False),
    "slice": lambda measured, own: client_slice(measured, own, masked=True),
    "slice_behind_front": lambda measured, own: client_slice(measured, own, True, measured.cut),
}


def be(name: str, measured: Measured) -> dict[str, float]:
    """One of the processes: its peak in bytes, and the CPU seconds of a step for 1,000 tokens."""
    torch.set_num_threads(1)
    return_large_blocks()
    with tempfile.TemporaryDirectory(prefix="fedslice-bench-") as own:
        (Path(own) / "out").mkdir()
        seconds = PROCESSES[name](measured, Path(own))
    tokens = measured.rows * measured.spec.max_tokens
    return {"peak": peak_memory(), "seconds": 1000 * seconds / tokens}


def _features(measured: Measured) -> Path:
    """What the front gave of all rows."""
    return measured.folder / f"features-{measured.cut}-{measured.rows}.bf16"


def _prepared(measured: Measured) -> tuple[str, Path]:
    """The hash and the folder of the prepared model, made once, in a process of its own, as an agent does."""
    kept, spec = measured.folder / f"prepared-{measured.spec.task}", measured.spec
    if not kept.is_dir():
        part = kept.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        prepare_in_child(measured.folder, spec.files, spec.task, part)
        part.rename(kept)
    return hashlib.sha256((kept / INDEX).read_bytes()).hexdigest(), kept


def _kind(measured: Measured) -> Any:
    if measured.spec.labels:
        return "text-label"
    return "text" if measured.whole else "prompt-response"


def _rows(measured: Measured, own: Path) -> Path:
    """A batch to train on, one to score and a row to test; each fills the longest text."""
    file, most = own / "rows.jsonl", measured.spec.max_tokens

    def row(split: Any, number: int) -> Row:
        asked = "patient " * most
        if measured.spec.labels:
            return TextLabel(f"{number} {asked}", measured.spec.labels[0], split)
        if measured.whole:
            return WholeText(f"{number} {asked}", split)
        return PromptResponse(f"{number} {asked}", ("pain " * (most // 4)).strip(), split)

    splits = ["train"] * measured.rows + ["validation"] * measured.rows + ["test"]
    file.write_bytes(b"".join(write_row(row(split, number)) for number, split in enumerate(splits)))
    return file


def _manifest(
    measured: Measured, own: Path, *, masked: bool = False, first: int = 0, split: bool = False
) -> Any:
    """What a learner asks of a manifest; who takes part and what is released is nothing to it."""
    from site_agent.datasets.card import content_digest

    rows = _rows(measured, own)
    digest, number = content_digest(rows, KEY), 2 * measured.rows + 1
    dataset = DatasetRef("notes", digest, number, kind=_kind(measured))
    site = SimpleNamespace(id="site", dataset=dataset)
    return SimpleNamespace(
        sites=[site],
        site=lambda _site: site,
        model=measured.spec,
        adapter=SPF if split else LORA,
        split=Split(measured.cut, checkpointing=measured.checkpointing) if split else None,
        front=PublicFront(first, 1) if first else None,
        training=Training(1, 1, measured.rows, 1e-4, 1, at_once=measured.at_once or UNSET),
        aggregation=SimpleNamespace(rule="fedavg", privacy=None),
        publication=Publication(),
        coded=None,
        masking=Masking(prepared=_prepared(measured)[0]) if masked else None,
    )


def _nobody(*_: Any) -> None:
    """Hears a step's progress."""


def _warm(call: Callable[[], object]) -> float:
    """CPU seconds of the second of two calls."""
    for _ in range(2):
        started = time.process_time()
        call()
    return time.process_time() - started
