"""Whatever bytes come, a parser of the log answers or refuses with a code; a bundle that was touched is never
verified. A longer run: `FEDSLICE_FUZZ=20000 pytest tests/log/test_fuzz.py`."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.log.checkpoint import parse_text, verify_checkpoint
from contracts.log.following import sign_checkpoint
from contracts.log.note import parse_note, parse_vkey
from contracts.refusal import Refusal
from error_catalogue import CATALOGUE
from tests.log.conftest import History, rewrite
from transparency_log.archive import Archive
from transparency_log.bundle import verify_bundle
from transparency_log.entry import (
    APPRAISAL,
    APPROVAL,
    KEY_RELEASE,
    RECEIPT,
    RELEASE,
    ROSTER,
    ROSTER_FIXED,
    SERVING,
    LeafEntry,
    encode_entry,
    parse_entry,
    typed_body,
)

EXAMPLES = int(os.environ.get("FEDSLICE_FUZZ", "0"))
KINDS = (APPRAISAL, APPROVAL, KEY_RELEASE, RECEIPT, RELEASE, ROSTER, ROSTER_FIXED, SERVING, "reference.added")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)

NOTES = st.text(max_size=200).map(lambda text: f"{text}\n\n— {text}\n".encode())


def tries(ordinary: int) -> Callable[[Any], Any]:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=EXAMPLES or ordinary, deadline=None, suppress_health_check=checks)


def answers_or_refuses(parse: Callable[[], object]) -> bool:
    """Whether it answered; any other exception than a Refusal of the catalogue is a fault."""
    try:
        parse()
    except Refusal as refusal:
        assert refusal.code in CATALOGUE, refusal.code
        return False
    return True


@tries(300)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_an_entry_or_refused(data: bytes) -> None:
    answers_or_refuses(lambda: parse_entry(data))


@tries(300)
@given(kind=st.sampled_from(KINDS), body=st.dictionaries(st.text(max_size=12), JSON, max_size=6))
def test_any_json_is_a_body_of_its_kind_or_refused(kind: str, body: dict[str, Any]) -> None:
    entry = LeafEntry(1, kind, 1, body)
    answers_or_refuses(lambda: typed_body(entry))
    answers_or_refuses(lambda: parse_entry(encode_entry(entry)))


@tries(300)
@given(data=st.binary(max_size=400) | NOTES)
def test_any_bytes_are_a_note_or_refused(data: bytes) -> None:
    answers_or_refuses(lambda: parse_text(parse_note(data).text))


@tries(200)
@given(text=st.text(max_size=120) | st.from_regex(r"[a-z]{1,9}\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{0,60}"))
def test_any_text_is_a_verifier_key_or_refused(text: str) -> None:
    answers_or_refuses(lambda: parse_vkey(text))


@tries(150)
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_checkpoint_in_which_one_byte_was_changed_is_not_the_logs(place: int, flip: int) -> None:
    log = History()
    note = bytearray(sign_checkpoint(log.checkpoint(), log.key).encode())
    note[place % len(note)] ^= flip
    assert not answers_or_refuses(lambda: verify_checkpoint(bytes(note), log.note_key))


class TestBundles:
    """One real bundle, whole and with older heads."""

    @pytest.fixture
    def whole(self, history: History, tmp_path: Path) -> tuple[History, bytes]:
        return history, history.write(tmp_path / "whole.zip", earlier=(1, 4)).read_bytes()

    def test_no_bytes_changed_anywhere_in_the_file_bring_a_traceback(
        self, whole: tuple[History, bytes], tmp_path: Path
    ) -> None:
        reported, data = whole
        path = tmp_path / "touched.zip"

        @tries(60)
        @given(place=st.integers(0, len(data) - 1), new=st.binary(min_size=1, max_size=6))
        def touch(place: int, new: bytes) -> None:
            path.write_bytes(data[:place] + new + data[place + len(new) :])
            answers_or_refuses(lambda: verify_bundle(path, log_key=reported.note_key))

        touch()

    def test_a_member_in_which_one_byte_was_changed_is_never_verified(
        self, whole: tuple[History, bytes], tmp_path: Path
    ) -> None:
        """All but bundle.json, in which nothing is believed."""
        reported, data = whole
        path = tmp_path / "touched.zip"
        with zipfile.ZipFile(BytesIO(data)) as bundle:
            members = {name: bundle.read(name) for name in bundle.namelist()}
        names = [name for name in members if name != "bundle.json"]

        @tries(40)
        @given(name=st.sampled_from(names), place=st.integers(0, 1 << 20), flip=st.integers(1, 255))
        def touch(name: str, place: int, flip: int) -> None:
            changed = bytearray(members[name])
            changed[place % len(changed)] ^= flip
            with zipfile.ZipFile(path, "w") as bundle:
                for member, held in members.items():
                    bundle.writestr(member, bytes(changed) if member == name else held)
            found: list[str] = []
            answers_or_refuses(lambda: found.append(verify_bundle(path, log_key=reported.note_key).verdict))
            assert found != ["verified"], (name, place, flip)

        touch()

    def test_any_bytes_are_an_archive_or_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "any.zip"

        @tries(100)
        @given(data=st.binary(max_size=300))
        def read(data: bytes) -> None:
            path.write_bytes(data)
            answers_or_refuses(lambda: Archive(path).close())

        read()

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: b"before" + data,
            lambda data: data + b"behind",
            lambda data: data[:-2] + b"\x05\x00hello",
        ],
        ids=["before", "behind", "comment"],
    )
    def test_bytes_beside_the_members_are_refused(
        self, whole: tuple[History, bytes], tmp_path: Path, change: Callable[[bytes], bytes]
    ) -> None:
        path = tmp_path / "more.zip"
        path.write_bytes(change(whole[1]))
        with pytest.raises(Refusal, match=r"bundle\.unusable"):
            verify_bundle(path, log_key=whole[0].note_key)

    @pytest.mark.parametrize(
        ("member", "old", "new"),
        [
            ("bundle.json", b'"created":', b'"created":1,"created":'),
            ("bundle.json", b'"created":', b'"more":1,"created":'),
            ("proofs.jsonl", b'"index":0', b'"index":9,"index":0'),
            ("earlier.jsonl", b'"proof":[]', b'"proof": []'),
        ],
        ids=["name twice", "unknown name", "index twice", "spelling"],
    )
    def test_a_name_that_stands_twice_or_is_unknown_is_refused(
        self, history: History, tmp_path: Path, member: str, old: bytes, new: bytes
    ) -> None:
        path = history.write(tmp_path / "b.zip", earlier=(10,))
        rewrite(path, lambda members: members.update({member: members[member].replace(old, new, 1)}))
        with pytest.raises(Refusal, match=r"bundle\.unusable"):
            verify_bundle(path, log_key=history.note_key)
