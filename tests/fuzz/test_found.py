"""What fuzzing has found: each of these inputs ended in a traceback before."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

import httpx
import msgspec
import pytest
import safetensors.numpy

from contracts.log import growth, merkle
from contracts.log.checkpoint import Checkpoint as Head
from contracts.log.following import sign_checkpoint
from contracts.log.note import NoteKey
from contracts.log.proof import Logged, require_logged
from contracts.manifest import parse
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from enclave.slicing.checkpoint import ModelCheckpoint
from enclave.training.tensors import METADATA, from_bytes
from site_agent.datasets.workbooks import sheet_rows
from site_agent.transport import read_as, read_json
from tests.fuzz.of_contracts import VECTORS
from tests.fuzz.of_files import TEMPLATE
from transparency_log.archive import Archive

DEEP = '{"a":' * 20_000


def refused(code: str) -> pytest.RaisesExc[Refusal]:
    return pytest.raises(Refusal, check=lambda refusal: refusal.code == code)


def test_a_manifest_with_a_number_that_has_no_canonical_form_is_refused() -> None:
    data = (VECTORS / "manifest.json").read_bytes().strip()
    assert b'"minimum_time":' in data
    with refused("manifest.invalid"):
        parse(re.sub(rb'"minimum_time":[0-9]+', b'"minimum_time":9007199254740992', data))


@pytest.mark.parametrize(
    "header",
    [
        b'{"a\xe9":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F33","shape":[1],"data_offsets":[8,4]}}',
    ],
    ids=["it is not UTF-8", "a tensor of an unknown type ends before it begins"],
)
def test_a_models_header_is_refused(tmp_path: Path, header: bytes) -> None:
    data = len(header).to_bytes(8, "little") + header + bytes(8)
    (tmp_path / "m.safetensors").write_bytes(data)
    with refused("model.unreadable"):
        ModelCheckpoint({tmp_path / "m.safetensors": hashlib.sha256(data).hexdigest()})


def directory_changed(data: bytes, at: int, value: bytes) -> bytes:
    """A zip file with a field of the first entry of its directory changed."""
    place = data.index(b"PK\x01\x02") + at
    return data[:place] + value + data[place + len(value) :]


def test_a_bundle_with_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as made:
        made.writestr("n", b"")
    data = (tmp_path / "bundle.zip").read_bytes()
    (tmp_path / "bundle.zip").write_bytes(directory_changed(data, 46, b"\0"))
    with refused("bundle.unusable"):
        Archive(tmp_path / "bundle.zip")


def test_a_workbook_of_a_version_of_zip_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as made:
        made.writestr("xl/workbook.xml", b"")
    data = (tmp_path / "book.xlsx").read_bytes()
    (tmp_path / "book.xlsx").write_bytes(directory_changed(data, 6, b"\xf0"))
    with refused("dataset.damaged"):
        next(sheet_rows(tmp_path / "book.xlsx"))


def test_parameters_with_metadata_nested_without_end_are_refused() -> None:
    with refused("tensors.unreadable"):
        from_bytes(safetensors.numpy.save(TEMPLATE, {METADATA: DEEP}), TEMPLATE)


def test_a_log_entry_nested_without_end_is_refused_though_it_is_in_the_log() -> None:
    key, store = SigningKey.generate(), growth.MemoryStore()
    growth.append(store, 0, merkle.leaf_hash(DEEP.encode()))
    head = Head("log.example", 1, growth.root(store, 1))
    with refused("log.wrong_entry"):
        shown = Logged(DEEP, 0, sign_checkpoint(head, key), ())
        require_logged(shown, "manifest", NoteKey("log.example", key.public), [])


@pytest.mark.parametrize("body", [b'{"key":"\\ud800"}', b'{"a":NaN}', DEEP.encode()])
def test_an_answer_with_half_a_character_or_no_number_is_no_json(body: bytes) -> None:
    """json.loads lets these through; the first thing that wrote them down ended the agent's command."""
    with refused("agent.bad_answer"):
        answered = read_json(httpx.Response(200, stream=httpx.ByteStream(body)))
        assert answered is not None
        read_as(answered, object)
    answered = read_json(httpx.Response(200, stream=httpx.ByteStream(msgspec.json.encode({"a": 1}))))
    assert answered is not None and read_as(answered, object) == {"a": 1}
