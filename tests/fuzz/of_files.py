"""Files: a hospital's datasets, a model's files, tuned parameters, feature shards, questions and answers."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tempfile
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import torch
import xlsxwriter

from contracts.manifest import DatasetRef, ModelSpec
from enclave.masking.channel import PAGE, SharedFile
from enclave.masking.layers import INDEX
from enclave.programs.template import learn
from enclave.slicing.checkpoint import ModelCheckpoint
from enclave.slicing.questions import read_probabilities, read_question, read_token
from enclave.training import features, row_reader, tensors
from enclave.training.handed import HandedFeatures
from enclave_host.accelerator import read_products
from enclave_host.channel_file import create_channel
from enclave_host.unmasked import WrittenStore
from site_agent.datasets.card import content_digest
from site_agent.datasets.columns import Columns
from site_agent.datasets.intake import Wishes, take_in
from tests.fuzz.of_contracts import the_manifest
from tests.fuzz.targets import target

TEMPLATE = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)}
LAYOUT = features.Layout("a" * 64, width=4, tokens=8, labels=3, per_token=False)
SPEC = ModelSpec("tiny", "sequence-classification", {"config.json": "c" * 64}, ("red", "green"), 16)
ROWS = [(f"note {number} about a patient", "red" if number % 2 else "green") for number in range(20)]


def written(data: bytes, ending: str) -> Path:
    """The bytes as a file of a folder that stays for the next input."""
    path = folder() / f"input{ending}"
    path.write_bytes(data)
    return path


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fedslice-fuzz-"))


def taken(data: bytes, ending: str) -> object:
    wishes = Wishes(Columns(text="text", label="label"))
    return take_in([written(data, ending)], folder() / "kept.jsonl", wishes).rows


def tables() -> list[bytes]:
    plain = "text,label\r\n" + "".join(f'"{text}",{label}\r\n' for text, label in ROWS)
    tabs = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS)
    marked = "\ufeffsep=;\ntext;label\n" + "".join(f"{text};{label}\n" for text, label in ROWS)
    return [
        plain.encode(), tabs.encode(), marked.encode(), plain.encode("utf-16"), plain.encode("cp1252"),
        gzip.compress(plain.encode(), mtime=0),
    ]  # fmt: skip


@target("dataset: table", tables)
def _table(data: bytes) -> object:
    return taken(data, ".csv")


@target(
    "dataset: JSON lines", lambda: [b"\n".join(json.dumps({"text": t, "label": v}).encode() for t, v in ROWS)]
)
def _lines(data: bytes) -> object:
    return taken(data, ".jsonl")


def talks() -> list[bytes]:
    """Conversations, and prompts with responses."""
    pairs = [{"instruction": text, "input": "", "output": label} for text, label in ROWS]
    return [
        b"\n".join(json.dumps({"messages": turns(text, label)}).encode() for text, label in ROWS),
        b"\n".join(json.dumps(pair).encode() for pair in pairs),
    ]


def turns(text: str, label: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": label}]


@target("dataset: conversations", talks)
def _talks(data: bytes) -> object:
    return take_in([written(data, ".jsonl")], folder() / "kept.jsonl", Wishes()).rows


def parquets() -> list[bytes]:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    texts, labels = zip(*ROWS, strict=True)
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "label": labels}), out)
    return [out.getvalue()]


@target("dataset: Parquet", parquets)
def _parquet(data: bytes) -> object:
    return taken(b"PAR1" + data[4:], ".parquet")


def workbooks() -> list[bytes]:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate([("text", "label"), *ROWS]):
            sheet.write_row(number, 0, row)
    return [out.getvalue()]


@target("dataset: workbook", workbooks)
def _workbook(data: bytes) -> object:
    return taken(b"PK\x03\x04" + data[4:], ".xlsx")


@target(
    "rows in the enclave",
    lambda: [
        b"".join(
            json.dumps({"kind": "text-label", "text": t, "label": v, "split": s}).encode() + b"\n"
            for (t, v), s in zip(ROWS, ("train", "test", "train", "validation") * 5, strict=True)
        )
    ],
)
def _rows(data: bytes) -> object:
    path = written(data, ".rows")
    pin = row_reader.Pin(DatasetRef("notes", content_digest(path, bytes(32)), 20), bytes(32))
    return row_reader.read_rows(path, SPEC, "text-label", pin)


@target(
    "conversations in the enclave",
    lambda: [
        b"".join(
            json.dumps({"kind": "messages", "messages": turns(text, label), "split": split}).encode() + b"\n"
            for (text, label), split in zip(ROWS, ("train", "test", "train", "validation") * 5, strict=True)
        )
    ],
)
def _conversations(data: bytes) -> object:
    path = written(data, ".rows")
    pin = row_reader.Pin(DatasetRef("talks", content_digest(path, bytes(32)), 20), bytes(32))
    return row_reader.read_rows(
        path, msgspec.structs.replace(SPEC, task="causal-lm", labels=()), "messages", pin
    )


@target("tuned parameters", lambda: [tensors.to_bytes(TEMPLATE, {"samples": 3, "metrics": {"loss": 0.5}})])
def _tensors(data: bytes) -> object:
    return tensors.from_bytes(data, TEMPLATE)


def adapters() -> list[bytes]:
    layer = "base_model.model.bert.encoder.layer.0.attention.self"
    targets = the_manifest().adapter.targets  # type: ignore[union-attr]
    state = {f"{layer}.{name}.lora_B.weight": np.zeros((4, 8), np.float32) for name in targets}
    return [tensors.to_bytes(state)]


@target("template of parameters", adapters)
def _template(data: bytes) -> object:
    return learn(data, the_manifest())


def checkpoints() -> list[bytes]:
    import safetensors.torch

    held = {
        "embeddings.word.weight": torch.ones(8, 4),
        "layer.weight": torch.zeros(4, 4, dtype=torch.bfloat16),
    }
    return [bytes(safetensors.torch.save(held))]


@target("a model's weights", checkpoints)
def _checkpoint(data: bytes) -> object:
    """Pinned as they are: a lead may register a broken file, and the hospitals may sign its hash."""
    path = written(data, ".safetensors")
    read = ModelCheckpoint({path: hashlib.sha256(data).hexdigest()}, "word.weight")
    return [read.read(name) for name in read.places]


@cache
def shard() -> bytes:
    lengths = torch.tensor([2, 3], dtype=torch.int32)
    packed = torch.zeros(5, 4, dtype=torch.bfloat16)
    return features.to_bytes(features.Shard(packed, lengths, torch.tensor([0, 2], dtype=torch.int32)), LAYOUT)


@target("feature shard", lambda: [shard()])
def _shard(data: bytes) -> object:
    return features.from_bytes(data, LAYOUT)


@target(
    "features in clear",
    lambda: [torch.linspace(-1, 1, 20).to(torch.bfloat16).view(torch.int16).numpy().tobytes()],
)
def _features(data: bytes) -> object:
    return HandedFeatures(written(data, ".features"), [2, 3], 4, 100.0).row(1)


def questions(*, per_token: bool) -> list[bytes]:
    import safetensors.torch

    packed, lengths = torch.zeros(5, 4, dtype=torch.bfloat16), torch.tensor([2, 3], dtype=torch.int32)
    if per_token:
        return [bytes(safetensors.torch.save({"features": packed}, {"temperature": "0.5", "seed": "3"}))]
    return [bytes(safetensors.torch.save({"features": packed, "lengths": lengths}))]


@target("question about texts", lambda: questions(per_token=False))
def _question(data: bytes) -> object:
    return read_question(data, width=4, per_token=False, longest=8)


@target("question for a token", lambda: questions(per_token=True))
def _token_question(data: bytes) -> object:
    return read_question(data, width=4, per_token=True, longest=8)


@target("answer", lambda: [torch.full((2, 3), 1 / 3).numpy().tobytes(), (7).to_bytes(4, "little")])
def _answer(data: bytes) -> object:
    if len(data) == 4:
        return read_token(data, 1000)
    return read_probabilities(data, 2, 3)


def channels() -> list[bytes]:
    create_channel(folder() / "seed.channel", "accelerator", slots=1, area=4096)
    return [(folder() / "seed.channel").read_bytes()[:PAGE]]


@target("accelerator's channel", channels)
def _channel(data: bytes) -> object:
    path = written(data + bytes(8192), ".channel")
    opened = SharedFile.open(path)
    return opened.name, opened.answer_area(3, 4, 4, 3).low.sum()


@cache
def store() -> Path:
    made = WrittenStore(folder() / "products")
    made.add("layer", (torch.ones(8, 4),), 8)
    return made.folder


@target("list of products", lambda: [(store() / INDEX).read_bytes()])
def _products(data: bytes) -> object:
    (store() / INDEX).write_bytes(data)
    return list(read_products(store()))
