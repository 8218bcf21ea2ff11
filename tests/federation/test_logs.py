"""Lines of logs say what they are about, one object a line, and no secret link."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from federation import logs
from federation.logs import JsonLines, PlainLines

LINK = "fs_" + "a" * 43
PLAIN = PlainLines("{levelname} {message}{about}", style="{")


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    logs.begin()


def record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    return logging.LogRecord(
        "a.logger", logging.WARNING, "file", 1, message, arguments, sys.exc_info() if error else None
    )


def test_ids_hold_inside_and_no_longer() -> None:
    assert logs.about() == {}
    with logs.telling(request="r-1", run=None):
        logs.also(run="run-1")
        with logs.telling(site="st-anna", round=3):
            assert PLAIN.format(record("went %s", "well")) == (
                "WARNING went well [request=r-1 run=run-1 site=st-anna round=3]"
            )
        assert logs.about() == {"request": "r-1", "run": "run-1"}
    assert PLAIN.format(record("over")) == "WARNING over"
    logs.begin(request="r-2")
    assert logs.about() == {"request": "r-2"}


@pytest.mark.parametrize("text", ["", " ", "a b", "a\nb", "a]", "x" * 65, "-a", "ä", "a=b", '"'])
def test_what_is_no_id_is_left_out(text: str) -> None:
    with logs.telling(request=text, password="secret"):
        assert logs.about() == {}
    assert not logs.is_id(text)


def test_a_line_of_json_is_one_object_whatever_is_in_it() -> None:
    with logs.telling(run="run-1"):
        try:
            raise ValueError(f"first\nsecond {LINK}")
        except ValueError:
            line = JsonLines().format(record('a "quote"\nand %s', f"/invitations/{LINK}", error=True))
    assert "\n" not in line and LINK not in line
    reported: dict[str, Any] = json.loads(line)
    assert reported["message"] == 'a "quote"\nand /invitations/fs_…'
    assert "ValueError: first\nsecond fs_…" in reported["trace"]
    assert (reported["run"], reported["level"], reported["logger"]) == ("run-1", "WARNING", "a.logger")
    assert reported["at"].endswith("Z")
