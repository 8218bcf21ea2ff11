"""The rows of `check`, and the letter for the firewall team, are read in German: at the terminal, and on the
hospital's page, to which the agent tells them in English."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from error_catalogue import check_texts
from error_catalogue.check_texts import TEMPLATES, readable
from outgoing.proxies import proxy_for
from site_agent import cli
from site_agent.check_rows import CheckRow
from site_agent.letters import letter, with_storage
from site_agent.lines import ProxyFault
from site_agent.machine_checks import machine
from site_agent.proxy_messages import proxy_row
from site_agent.state import State
from site_agent.tee_checks import MachineFiles, tee
from tests.support.installation import REPOSITORY
from translations.spoken import speaking

MODULES = ("checks", "machine_checks", "network_checks", "proxy_messages", "storage_checks", "tee_checks",
           "tls_messages", "letters")  # fmt: skip
NAMES = {"GPU", "DNS", "TLS", "TEE", "SGX", "DCAP", "Gramine", "TDX", "PCCS"}
"""Names of rows that are the same in German."""
APART = {"site agent", "by", "no-", "configfs-tsm", " (", "); "}
"""Pieces that are put together with what stands in other languages, too."""


def pieces(module: str) -> set[str]:
    """What a module of the checks says: its texts with a blank in them, cut where something is filled in."""
    tree = ast.parse((REPOSITORY / "site_agent" / f"{module}.py").read_text())
    apart = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            apart.add(id(node.body[0].value))  # type: ignore[attr-defined]
        if isinstance(node, ast.Expr):
            apart.add(id(node.value))  # what stands below a constant
        if isinstance(node, ast.Subscript | ast.Raise):
            apart |= {id(one) for one in ast.walk(node)}
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("re.", "self.", "subprocess.")):
            apart |= {id(one) for one in ast.walk(node)}
    said = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart
    }
    lines = {line for text in said for line in text.splitlines()}
    return {line for line in lines if " " in line.strip() and re.search("[a-z]{2} [a-z]{2}", line)}


@pytest.mark.parametrize("module", MODULES)
def test_what_a_check_says_is_among_the_templates(module: str) -> None:
    known = "\n".join(re.sub(r"\{\w+\}", "\0", text) for text in TEMPLATES)
    found = pieces(module)
    assert found or module == "checks"
    assert {piece for piece in found if piece.strip() not in known and piece not in APART} == set()


def rows_of(folder: Path) -> list[CheckRow]:
    """Rows of a machine without anything, and of proxies that let nobody through."""
    state = State.open(folder)
    bare = MachineFiles(root=folder)
    way = proxy_for("https://coordinator.example", {"HTTPS_PROXY": "http://proxy.example:3128"})
    assert way is not None
    faults = [ProxyFault("Forbidden", status=403), ProxyFault("Bad gateway", status=502),
              ProxyFault("who are you", status=407), ProxyFault("refused")]  # fmt: skip
    return [
        *machine(state),
        *tee(state, 1 << 30, bare),
        *(proxy_row(way, fault, "coordinator.example", 443) for fault in faults),
    ]


def test_rows_and_letters_are_german_to_the_last_line(tmp_path: Path) -> None:
    with speaking("en"):
        rows = rows_of(tmp_path / "state")
    assert len(rows) > 8
    with speaking("de"):
        for row in rows:
            assert row.name in NAMES or readable(row.name) != row.name
            assert readable(row.found) != row.found, row.found
            for line in (row.hint, *filter(None, row.letter.splitlines())):
                assert not line or readable(line) != line, line
        with with_storage("https://files.example"):
            text = readable(letter("coordinator.example", 443, "Please do."))
    assert "- Was hinausgeht: " in text and not re.search(r"\b(the|and|never)\b", text)
    assert "files.example, TCP-Port 443" in text


def test_what_varies_stays_and_what_is_not_known_stays_english() -> None:
    with speaking("de"):
        assert readable("fs is {x} 100% free") == "fs is {x} 100% frei"
        assert readable("quite another thing") == "quite another thing"
        assert readable("3 datasets, unchanged on the disk") == "3 Datensätze, auf der Platte unverändert"
    with speaking("en"):
        assert readable("4 GiB free") == "4 GiB free"


def test_the_terminal_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--language", "de", "--state", str(tmp_path / "state"), "check"]) == 1
    said = capsys.readouterr().out
    assert "Arbeitsspeicher" in said and "in diesem Rechner" in said and "in this machine" not in said


@pytest.mark.parametrize(
    "text",
    [
        "- What goes out: " + "; " * 490,
        "- What goes out: " + " and ; " * 140 + ".",
        "no connection: " + "the certificate is for , not for ; " * 25,
        "\n".join(["- Destination: " + "; and " * 40 + "."] * 8),
    ],
)
def test_what_a_hospital_makes_up_costs_little(text: str) -> None:
    """A hospital writes these texts: where each place of a template could end anywhere, a thousand characters
    took a minute, and so would this. Counted are the steps from text to text, and no clock."""
    asked = 0

    def counting(part: str, **how: bool) -> str:
        nonlocal asked
        asked += 1
        return original(part, **how)

    original, check_texts._line = check_texts._line, counting  # type: ignore[assignment]
    try:
        with speaking("de"):
            readable(text)
    finally:
        check_texts._line = original
    assert asked < 1000


@pytest.mark.parametrize("text", ["the disk and the clock disagree", "two words answers", "a; and b"])
def test_what_fits_no_text_of_ours_stays_as_it_is(text: str) -> None:
    with speaking("de"):
        assert readable(text) == text
