"""Management commands speak the language of the terminal at which they are typed, and what they write for
others that of its reader."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from django.core import mail
from django.core.management import call_command, get_commands, load_command_class
from django.utils.translation import override

from federation.people.models import Invitation
from federation.spoken_command import SpokenCommand

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = sorted(name for name, app in get_commands().items() if app.startswith(("federation", "enclave_jobs")))
FILES = sorted(
    path
    for package in ("federation", "enclave_jobs")
    for path in (REPOSITORY / package).glob("**/management/commands/[a-z]*.py")
)
SAYS = ("write", "CommandError", "getpass", "_unusable")
"""Calls whose first argument people read."""
PASSWORD = "correct horse battery staple"


@pytest.mark.parametrize("name", OURS)
def test_each_command_of_ours_speaks(name: str) -> None:
    command = load_command_class(get_commands()[name], name)
    assert isinstance(command, SpokenCommand)
    english = command.create_parser("manage.py", name).format_help()
    with override("de"):
        again = load_command_class(get_commands()[name], name).create_parser("manage.py", name).format_help()
    assert english != again


def unspoken(source: str) -> list[str]:
    """What a command would say in English in any language: literals with words in a help or an output."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        said = [key.value for key in node.keywords if key.arg == "help"]
        said += node.args[:1] if name in SAYS else []
        for value in said:
            parts = value.values if isinstance(value, ast.JoinedStr) else [value]
            literals = [part.value for part in parts if isinstance(part, ast.Constant)]
            found += [text for text in literals if any(len(word) > 3 for word in _words(str(text)))]
    return found


def _words(text: str) -> list[str]:
    return [word for word in text.replace("-", " ").split() if word.isalpha()]


def test_no_command_has_a_text_of_its_own_that_is_not_marked() -> None:
    assert len(FILES) == len(OURS)
    found = {path.name: texts for path in FILES if (texts := unspoken(path.read_text()))}
    assert not found


def test_a_text_that_is_not_marked_would_be_found() -> None:
    assert unspoken('parser.add_argument("file", help="where it goes")') == ["where it goes"]
    assert unspoken('self.stdout.write(f"{n} rows were read")') == [" rows were read"]
    assert not unspoken('self.stdout.write(_("%(n)s rows") % {"n": 1})\nself.stdout.write(f"{sha}  {name}")')


@pytest.mark.django_db
def test_a_german_terminal_makes_an_operator_and_invites_a_german_lead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    argv = ["manage.py", "create_operator", "--email", "olga@klinik.example", "--password-stdin"]
    app = get_commands()["create_operator"]
    load_command_class(app, "create_operator").run_from_argv([*argv, "--invite-lead", "lena@klinik.example"])
    said = capsys.readouterr().out
    assert "Konto des Betriebs olga@klinik.example angelegt" in said and "die Einladung ist unterwegs" in said
    assert Invitation.objects.get().language == "de"
    assert "lädt Sie" in str(mail.outbox[-1].body)


@pytest.mark.django_db
def test_a_command_that_is_called_by_code_keeps_its_callers_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    out = io.StringIO()
    call_command("forget", "--dry-run", stdout=out)
    assert "Nothing was removed." in out.getvalue()
