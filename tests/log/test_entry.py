"""An entry is the canonical form of what it says, and nothing else is let into the log."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.canonical import canonical
from contracts.manifest import Manifest
from contracts.policy import Policy
from contracts.refusal import Refusal
from transparency_log.entry import (
    APPROVAL,
    BODIES,
    EARLIER,
    FORMAT,
    MAX_ENTRY_BYTES,
    ApprovalBody,
    LeafEntry,
    encode_entry,
    make_entry,
    parse_entry,
    typed_body,
)

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
BODY = ApprovalBody("a" * 64, "site-a", ("site-a",), "b" * 128)


def without_words(schema: Any) -> Any:
    """A JSON schema without its descriptions, which change nothing."""
    if isinstance(schema, dict):
        words = {name for name, part in schema.items() if name == "description" and isinstance(part, str)}
        return {name: without_words(part) for name, part in schema.items() if name not in words}
    return [without_words(part) for part in schema] if isinstance(schema, list | tuple) else schema


def refused(data: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_entry(data)
    assert refusal.value.code == "log.invalid_entry"


def test_an_entry_round_trips_and_names_its_attachments_by_itself() -> None:
    entry = make_entry(APPROVAL, 5, BODY)
    assert entry.attachments == ("a" * 64,)
    assert parse_entry(encode_entry(entry)) == entry
    assert typed_body(entry) == BODY


def test_an_entry_of_another_kind_keeps_its_body_as_it_is() -> None:
    entry = make_entry("policy.changed", 5, {"who": "operator", "share": 0.5}, ("c" * 64,))
    assert typed_body(parse_entry(encode_entry(entry))) is None


@pytest.mark.parametrize(
    "change",
    [
        {"version": "3"},
        {"version": 0},
        {"kind": "Not A Kind"},
        {"kind": "policy.changed\n"},
        {"at": -1},
        {"at": 1.5},
        {"more": 1},
        {"attachments": ["short"]},
        {"body": []},
    ],
    ids=str,
)
def test_entries_that_break_the_form_are_refused(change: dict[str, Any]) -> None:
    good = json.loads(encode_entry(make_entry("policy.changed", 5, {})))
    refused(json.dumps(good | change, separators=(",", ":"), sort_keys=True).encode())


@pytest.mark.parametrize("version", [EARLIER - 1, FORMAT + 1])
def test_an_entry_of_another_format_is_refused_by_its_number(version: int) -> None:
    good = json.loads(encode_entry(make_entry("policy.changed", 5, {})))
    with pytest.raises(Refusal) as refusal:
        parse_entry(canonical({**good, "version": version, "more": 1}))
    assert refusal.value.code == "log.other_format"
    assert refusal.value.facts == {"found": version, "known": FORMAT}


@pytest.mark.parametrize("version", [EARLIER, FORMAT])
def test_an_entry_says_the_same_in_the_format_before(version: int) -> None:
    written = make_entry(APPROVAL, 5, BODY, version=version)  # type: ignore[arg-type]
    read = parse_entry(encode_entry(written))
    assert (read.version, typed_body(read)) == (version, BODY)


def test_whoever_changes_what_entries_say_gives_the_format_another_number() -> None:
    """Else a verifier takes what it cannot read for a lie. Raise FORMAT (and Entry.version), name it in
    CHANGELOG.md, then put both numbers here."""
    schemas, parts = msgspec.json.schema_components([LeafEntry, *BODIES.values(), Manifest, Policy])
    found = hashlib.sha256(json.dumps([schemas, without_words(parts)], sort_keys=True).encode()).hexdigest()
    assert (FORMAT, found) == (7, "33f30df9c7f2d72e9a9ac39122bb344538dae1c9383bbd83a22588059ef55d4c")
    assert f"\n| {FORMAT} | " in CHANGELOG.read_text()


def test_a_second_spelling_of_an_entry_is_refused() -> None:
    good = encode_entry(make_entry("policy.changed", 5, {"a": 1}))
    refused(good + b"\n")
    refused(good.replace(b'"a":1', b'"a": 1'))
    refused(good.replace(b'"a":1', b'"a":1.0'))
    refused(good.replace(b'"a":1', b'"a":1,"a":1'))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60])
def test_numbers_without_one_spelling_are_refused(value: float) -> None:
    with pytest.raises(Refusal) as refusal:
        encode_entry(LeafEntry(FORMAT, "policy.changed", 5, {"a": value}))
    assert refusal.value.code == "log.invalid_entry"


def test_a_body_that_does_not_fit_its_kind_is_refused() -> None:
    with pytest.raises(Refusal) as refusal:
        make_entry(APPROVAL, 5, {"manifest": "a" * 64})
    assert refusal.value.code == "log.invalid_entry"


def test_an_oversized_entry_is_refused() -> None:
    with pytest.raises(Refusal) as refusal:
        make_entry("policy.changed", 5, {"text": "x" * MAX_ENTRY_BYTES})
    assert refusal.value.code == "log.invalid_entry"
    refused(b"x" * (MAX_ENTRY_BYTES + 1))
