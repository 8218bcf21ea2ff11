"""Pickled checkpoints are converted in a sandbox, to the same bytes each time; all else is refused.

The hostile ones go through the real child."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from contracts.refusal import Refusal
from enclave_host.base_models import resolve_pickled
from enclave_host.bounded import REPOSITORY, ChildLimits
from enclave_host.converting import PICKLED, convert
from enclave_host.converting.archive import look_into
from enclave_host.converting.unpickle import state_of
from enclave_host.pinning import pin
from error_catalogue import CATALOGUE, explain
from tests.training.test_registered_is_proven import CLASSIFICATION, proven

ENOUGH = ChildLimits(4 << 30, 300)


def pickled(folder: Path, *, zipped: bool = True, **more: Any) -> dict[str, torch.Tensor]:
    """Replace the folder's safetensors by `pytorch_model.bin`; returns what is in it."""
    state: dict[str, Any] = {**load_file(folder / "model.safetensors"), **more}
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / PICKLED, _use_new_zipfile_serialization=zipped)
    return state


def test_a_conversion_gives_the_same_bytes_each_time_and_they_are_proven_and_pinned(
    bert_folder: Path, tmp_path: Path
) -> None:
    words = load_file(bert_folder / "model.safetensors")["embeddings.word_embeddings.weight"]
    tied = {"cls.predictions.decoder.weight": words, "cls.a": words.half().t(), "cls.b": words[1:].bfloat16()}
    state = pickled(bert_folder, **tied)
    with pytest.raises(Refusal) as caught:
        proven(bert_folder)
    assert caught.value.code == "model.pickle_weights"
    assert "convert_checkpoint" in explain(caught.value.code, caught.value.facts).hint
    first = convert(resolve_pickled(str(bert_folder)), tmp_path / "first", limits=ENOUGH)
    # As torch wrote it before 1.6 (BioBERT's is so), in another order.
    torch.save(dict(reversed(state.items())), bert_folder / PICKLED, _use_new_zipfile_serialization=False)
    second = convert(bert_folder, tmp_path / "second", limits=ENOUGH)
    assert first.made == second.made and first.sources != second.sources
    assert pin(tmp_path / "first")["model.safetensors"] == first.made["model.safetensors"]
    found = load_file(tmp_path / "first" / "model.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert proven(tmp_path / "first", CLASSIFICATION).ways["masked/lora"].proven
    with pytest.raises(Refusal, match="exists"):
        convert(bert_folder, tmp_path / "first", limits=ENOUGH)


class Evil:
    """What a pickle can do: call anything with anything."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._made = call, arguments

    def __reduce__(self) -> Any:
        return self._made


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_by_the_child_and_runs_nothing(
    bert_folder: Path, tmp_path: Path, zipped: bool
) -> None:
    mark = tmp_path / "was here"
    pickled(bert_folder, zipped=zipped, extra=Evil(os.system, f"touch '{mark}'"))
    with pytest.raises(Refusal) as caught:
        convert(bert_folder, tmp_path / "new", limits=ENOUGH)
    assert caught.value.code == "convert.code" and "system" in str(caught.value.facts["found"])
    assert not mark.exists() and not (tmp_path / "new").exists()


BEHIND_THE_LOCK = """
import pickle, sys
from enclave_host.confinement import lock_down
import os, socket, subprocess, traceback
lock_down()
data = open(0, "rb", closefd=False).read()
try:
    pickle.loads(data)
    print("DONE")
except OSError as error:
    print("errno", error.errno)
"""


def behind_the_lock(data: bytes) -> str:
    """What comes of this pickle where nothing but seccomp stands in its way."""
    code = BEHIND_THE_LOCK.replace('open(0, "rb", closefd=False)', "sys.stdin.buffer")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, input=data, capture_output=True, timeout=60
    )
    return done.stdout.decode().strip()


def test_code_that_runs_all_the_same_can_open_start_and_reach_nothing(tmp_path: Path) -> None:
    """The second wall, without the first: plain pickle behind the child's own lock."""
    secret = tmp_path / "secret"
    secret.write_text("s")
    assert behind_the_lock(pickle.dumps(Evil(len, [1]))) == "DONE"
    for evil in (
        Evil(open, str(secret)),
        Evil(open, str(tmp_path / "new"), "w"),
        Evil(os.fork),
        Evil(os.execv, "/bin/true", ["true"]),
        Evil(socket.socket),
        Evil(os.kill, os.getpid(), 0),
        Evil(os.unlink, str(secret)),
    ):
        assert behind_the_lock(pickle.dumps(evil)) == "errno 1"
    assert secret.exists() and not (tmp_path / "new").exists()


def zip_of(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file


def test_an_archive_that_grows_as_it_is_read_is_refused_before_it_is() -> None:
    bomb = zip_of(("archive/data.pkl", b"\x00" * (32 << 20)), compression=zipfile.ZIP_DEFLATED)
    overlapping = zip_of(("a/data.pkl", b"."), ("a/data/0", b"\x00" * 4000)).getvalue()
    # The directory's entry, written again and again: each names the same bytes.
    start = overlapping.index(b"PK\x01\x02")
    end = overlapping.index(b"PK\x05\x06")
    entries, tail = overlapping[start:end], bytearray(overlapping[end:])
    times = 40
    tail[8:12] = (2 * times).to_bytes(2, "little") * 2
    tail[12:16] = (len(entries) * times).to_bytes(4, "little")
    quines = io.BytesIO(overlapping[:start] + entries * times + tail)
    for file in (bomb, quines):
        with pytest.raises(Refusal) as caught:
            look_into(file, "x.bin")
        assert caught.value.code == "convert.bomb"
    with pytest.raises(Refusal) as caught:
        look_into(io.BytesIO(b"PK\x03\x04" + b"\x00" * 100), "x.bin")
    assert caught.value.code == "convert.damaged"


def saved(value: Any, **how: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file, **how)
    file.seek(0)
    return file


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}, "convert.bomb"),
        ({"w": torch.zeros(4).to_sparse()}, "convert.not_weights"),
        ({"w": torch.zeros(4), "epoch": 3}, "convert.not_weights"),
        ({3: torch.zeros(4)}, "convert.not_weights"),
        ({"w\n": torch.zeros(4)}, "convert.not_weights"),
        ({"w": torch.zeros(4, dtype=torch.complex64)}, "convert.not_weights"),
        ([torch.zeros(4)], "convert.not_weights"),
        ({}, "convert.not_weights"),
    ],
)
def test_what_is_no_checkpoint_is_refused(value: Any, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        state_of(saved(value), "x.bin")
    assert caught.value.code == code and code in CATALOGUE


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
def test_a_damaged_pickle_is_a_refusal(cut: int) -> None:
    whole = saved({"w": torch.zeros(400)}, _use_new_zipfile_serialization=False).getvalue()
    with pytest.raises(Refusal) as caught:
        state_of(io.BytesIO(whole[:cut]), "x.bin")
    assert caught.value.code in ("convert.damaged", "convert.code")


def test_a_state_dict_inside_a_training_checkpoint_is_found() -> None:
    assert list(state_of(saved({"state_dict": {"w": torch.zeros(2)}, "epoch": 1}), "x.bin")) == ["w"]


def test_shards_are_converted_one_by_one_and_indexed(bert_folder: Path, tmp_path: Path) -> None:
    state = load_file(bert_folder / "model.safetensors")
    (bert_folder / "model.safetensors").unlink()
    names = sorted(state)
    shards = {f"pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
    for file, held in shards.items():
        torch.save({name: state[name] for name in held}, bert_folder / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (bert_folder / f"{PICKLED}.index.json").write_text(json.dumps(index))
    reported = convert(bert_folder, tmp_path / "new", limits=ENOUGH)
    assert list(reported.made) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert proven(tmp_path / "new").whole
    index["weight_map"]["more"] = "../secret.bin"
    (bert_folder / f"{PICKLED}.index.json").write_text(json.dumps(index))
    with pytest.raises(Refusal) as caught:
        convert(bert_folder, tmp_path / "other", limits=ENOUGH)
    assert caught.value.code == "model.file_missing"
