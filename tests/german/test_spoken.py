"""Which language is spoken, by whom it is chosen."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from site_agent import cli
from site_agent.usage import in_our_words
from translations import spoken


@pytest.fixture(autouse=True)
def german(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken, "LANGUAGES", {"en": "English", "de": "Deutsch"})


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "de"}, "de"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "de_AT.UTF-8"}, "de"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": ""}, "de"),
        ({"LANG": "denmark"}, "en"),
    ],
)
def test_a_terminal_speaks_by_its_locale(environment: dict[str, str], language: str) -> None:
    assert spoken.of_terminal(environment) == language


def test_who_speaks_explicitly_goes_before_what_is_followed() -> None:
    before = list(spoken._followed)
    try:
        spoken.follow(lambda: "de-at")
        assert spoken.language() == "de"
        with spoken.speaking("en"):
            assert spoken.language() == "en"
            with spoken.speaking("tlh"):
                assert spoken.language() == "en"
        assert spoken.language() == "de"
    finally:
        spoken._followed[:] = before


def test_the_terminal_speaks_by_its_locale_and_by_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert cli.main(["--state", str(tmp_path / "state"), *arguments]) in (0, 1)
        reported = capsys.readouterr()
        return reported.out + reported.err

    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert "There is no dataset here" in said("dataset", "list")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    assert "Hier ist kein Datensatz" in said("dataset", "list")
    assert "Diese Maschine ist noch nicht registriert" in said("approve")
    assert "There is no dataset here" in said("--language", "en", "dataset", "list")
    assert spoken.language() == "en", "what a command speaks ends with it"


def test_every_help_is_german(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each command and option is for."""
    with spoken.speaking("de"), in_our_words():
        german = _helps(cli.build_parser())
    with spoken.speaking("en"), in_our_words():
        english = _helps(cli.build_parser())
    same = {one for one in german & english if " " in one and not one.startswith(("CSV", ".txt"))}
    assert len(german) > 60 and not same, "\n".join(sorted(same))


@pytest.mark.parametrize(
    ("arguments", "german"),
    [
        (["--help"], "Aufruf: "),
        (["check", "--help"], "diese Hilfe zeigen"),
        (["enrol"], "diese Argumente fehlen: --coordinator, --token"),
        (["chekc"], "unbekannte Wahl: 'chekc'"),
        (["check", "--enclave"], "Argument --enclave: es fehlt ein Wert"),
        (["check", "more"], "unbekannte Argumente: more"),
        (["thread", "x", "--say", "a", "--decline", "b"], "nicht zusammen mit --say"),
    ],
)
def test_argparse_speaks_german_too(
    arguments: list[str], german: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--language", "de", *arguments])
    reported = capsys.readouterr()
    assert german in reported.out + reported.err
    assert ended.value.code == (0 if "--help" in arguments else 2)
    for english in ("usage:", "error:", "options:", "positional", "show "):
        assert english not in reported.out + reported.err
    with pytest.raises(SystemExit):
        cli.main(["--language", "en", *arguments])
    reported = capsys.readouterr()
    assert "usage: " in reported.out + reported.err and argparse._("options") == "options"  # type: ignore[attr-defined]


def _helps(parser: argparse.ArgumentParser) -> set[str]:
    found = {action.help for action in parser._actions if action.help}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {choice.help for choice in action._choices_actions if choice.help}
            for inner in action.choices.values():
                found |= _helps(inner)
    return found
