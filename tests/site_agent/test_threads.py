"""The thread at the terminal: harmless to it, and held against the hashes that the log has."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from contracts.agents_api.studies import ThreadItem
from contracts.refusal import Refusal
from site_agent.threads import choose, describe, threads
from tests.site_agent.conftest import Line, Reply, Server

SALT = "5" * 64


def thread(said_first: str, **changes: Any) -> ThreadItem:
    text = said_first
    digest = hashlib.sha256(bytes.fromhex(SALT) + text.encode()).hexdigest()
    said = {
        "number": 1, "at": "2026-11-28T10:00:00+00:00", "speaker": "lead", "kind": "message",
        "about": "study", "by": "lena@university.example", "text": text,
        "salt": SALT, "digest": digest, **changes,
    }  # fmt: skip
    reported = {"study": "S1", "name": "Triage", "manifest_hash": "a" * 64, "state": "approving"}
    return msgspec.convert({**reported, "declined": False, "messages": [said]}, ThreadItem)


def test_nothing_that_a_lead_or_a_coordinator_wrote_moves_the_cursor_or_turns_the_line() -> None:
    shown = describe(thread("one\n\x1b[2Jtwo \u202eeerht", by="\x1b]0;x\x07lena"))
    assert "\x1b" not in shown and "\u202e" not in shown and "\x07" not in shown
    assert "    one\n" in shown


def test_a_text_that_does_not_fit_its_hash_is_not_shown_and_an_erased_one_is_said_to_be_gone() -> None:
    for changes in ({"text": "another"}, {"salt": "6" * 64}, {"salt": "not hex"}):
        with pytest.raises(Refusal) as refusal:
            describe(thread("Why?", **changes))
        assert refusal.value.code == "thread.altered"
    assert "(erased)" in describe(thread("Why?", text="", salt=""))


def test_a_study_is_chosen_by_its_name_or_fingerprint_and_never_by_chance() -> None:
    other = msgspec.structs.replace(thread("x"), study="S2", name="Other", manifest_hash="b" * 64)
    found = [thread("x"), other]
    assert choose(found, "other").study == "S2" and choose(found, "a" * 8).study == "S1"
    for asked in (None, "nothing", "a"):
        with pytest.raises(Refusal, match=r"thread\.unknown"):
            choose(found, asked)


def test_an_answer_that_is_no_list_of_threads_is_refused(server: Server, line: Line) -> None:
    server.script(Reply(body=[{"study": 1}]))
    with pytest.raises(Refusal, match=r"agent\.bad_answer"):
        threads(line.coordinator)
