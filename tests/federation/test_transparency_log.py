"""The log in the database: appended before release, and proved to those who follow it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from django.db import transaction

from contracts.canonical import canonical
from contracts.log import growth, merkle
from contracts.log.checkpoint import verify_checkpoint
from contracts.log.following import follow
from contracts.log.note import parse_vkey
from contracts.manifest import Release
from contracts.refusal import Refusal
from federation.attestation import log
from federation.attestation.models import LogEntry, LogHead, StoredEvidence
from federation.studies.freezing import build_manifest
from federation.studies.models import Study
from tests.federation.cast import Hospital

pytestmark = pytest.mark.django_db


def fill(count: int) -> list[LogEntry]:
    return [log.append("test.entry", {"n": n}) for n in range(count)]


def test_an_agent_follows_the_log_and_finds_an_entry_in_it(anna: Hospital) -> None:
    rows = fill(7)
    first = anna.call("get", "log/checkpoint").json()
    key = parse_vkey(first["key"])
    seen = verify_checkpoint(first["checkpoint"], key)
    assert (seen.origin, seen.size) == ("127.0.0.1:8000/log", 7)
    fill(6)
    second = verify_checkpoint(anna.call("get", "log/checkpoint").json()["checkpoint"], key)
    reported = anna.call("get", "log/consistency?from=7&to=13").json()
    assert follow(seen, second, [bytes.fromhex(item) for item in reported["proof"]]) == second
    for name in (rows[3].leaf_hash, "3"):
        reported = anna.call("get", f"log/inclusion?entry={name}").json()
        assert (reported["index"], reported["size"]) == (3, 13)
        leaf, proof = (
            bytes.fromhex(reported["leaf_hash"]),
            [bytes.fromhex(item) for item in reported["proof"]],
        )
        assert leaf == merkle.leaf_hash(rows[3].data.encode())
        merkle.verify_inclusion(3, 13, leaf, proof, second.root)
    reported = anna.call("get", "log/inclusion?entry=3&size=7").json()
    proof = [bytes.fromhex(item) for item in reported["proof"]]
    merkle.verify_inclusion(3, 7, bytes.fromhex(reported["leaf_hash"]), proof, seen.root)


def test_a_changed_or_removed_entry_does_not_pass_as_the_same_log() -> None:
    fill(8)
    before = log.checkpoint()
    LogEntry.objects.filter(index=7).update(leaf_hash="0" * 64)
    log.append("test.entry", {"n": 8})
    with pytest.raises(Refusal, match=r"log\.not_consistent"):
        growth.verify_consistency(
            8,
            9,
            bytes.fromhex(before.root),
            growth.root(_rebuilt(), 9),
            log.consistency(8, 9),
        )


def _rebuilt() -> growth.MemoryStore:
    store, size = growth.MemoryStore(), 0
    for leaf in LogEntry.objects.order_by("index").values_list("leaf_hash", flat=True):
        size = growth.append(store, size, bytes.fromhex(leaf))
    return store


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ("log/consistency?from=0&to=3", "log.bad_range"),
        ("log/consistency?from=2&to=9", "log.bad_range"),
        ("log/consistency?from=3&to=2", "log.bad_range"),
        ("log/consistency?from=x&to=2", "request.invalid"),
        ("log/consistency", "request.invalid"),
        ("log/inclusion?entry=3", "request.not_found"),
        ("log/inclusion?entry=2&size=2", "log.bad_range"),
        ("log/inclusion?entry=2&size=99", "log.bad_range"),
        ("log/inclusion?entry=-1", "request.invalid"),
        (f"log/inclusion?entry={'f' * 64}", "request.not_found"),
    ],
)
def test_a_question_that_is_not_about_the_log_is_refused(anna: Hospital, question: str, code: str) -> None:
    fill(3)
    assert anna.call("get", question).json()["code"] == code


def test_one_size_has_one_checkpoint_for_ever() -> None:
    fill(2)
    first = log.checkpoint()
    assert log.checkpoint() == first
    assert LogHead.objects.get().size == 2


def test_an_entry_whose_attachment_is_not_kept_is_refused() -> None:
    body = {"manifest": "a" * 64, "site": "anna", "confirmed": ["anna"], "signature": "b" * 128}
    with pytest.raises(Refusal, match=r"log\.invalid_entry"):
        log.append("approval", body)
    assert log.size() == 0
    data = json.dumps({"any": "manifest"}).encode()
    attachment = log.Attachment("manifest", data)
    log.append("approval", {**body, "manifest": attachment.sha256}, [attachment])
    assert bytes(StoredEvidence.objects.get().data) == data


@pytest.mark.parametrize(
    ("release", "version"), [(Release("serve-only", 1), 6), (Release("serve-only", 1, 9), 7)]
)
def test_what_0_1_0_can_read_is_written_so_that_it_does(ready: Study, release: Release, version: int) -> None:
    manifest = msgspec.structs.replace(build_manifest(ready), release=release)
    attachment = log.Attachment("manifest", canonical(manifest))
    body = {"manifest": attachment.sha256, "site": "anna", "confirmed": ["anna"], "signature": "b" * 128}
    assert json.loads(log.append("approval", body, [attachment]).data)["version"] == version
    # What names it later, and does not bring it, cannot be judged without it: "failed", says 0.1.0.
    named = {"manifest": attachment.sha256}
    assert json.loads(log.append("message", named).data)["version"] == version
    entry = {"site": "anna", "sha256": "c" * 64}
    roster = {**named, "round": 1, "inputs": [entry], "previous": "0" * 64, "pooled": False}
    assert json.loads(log.append("roster.fixed", {"roster": roster}).data)["version"] == version
    assert json.loads(log.append("test.entry", {"n": 1}).data)["version"] == 6


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_leaves_no_trace_in_the_tree() -> None:
    fill(1)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        log.append("test.entry", {"n": 1})
        _ = 1 / 0
    log.append("test.entry", {"n": 2})
    assert list(LogEntry.objects.values_list("index", flat=True)) == [0, 1]


def test_the_key_is_made_once_and_is_its_owners_only(settings: Any) -> None:
    key = log.verifier_key()
    assert log.verifier_key() == key
    assert (settings.STATE_DIR / log.KEY_FILE).stat().st_mode & 0o777 == 0o600
