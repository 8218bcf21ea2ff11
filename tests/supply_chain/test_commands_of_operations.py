"""Each command that the pages for operators show is one that there is, with these options."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from site_agent.cli import build_parser
from tests.support.installation import REPOSITORY

PAGES = ("docs/operations.md", "docs/incidents.md", "docs/rollback.md", "README.md", "SECURITY.md")
MANAGE, AGENT, MAKE = r"manage\.py ", r"-m site_agent ", r"make "
IN_TEXT = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown(start: str) -> list[tuple[str, str]]:
    """(page, words after `start`) of every command in a block of shell, or in back quotes."""
    found = []
    for page in PAGES:
        if not (REPOSITORY / page).is_file():
            continue
        text = (REPOSITORY / page).read_text()
        lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        lines += [quoted.replace("\n", " ") for quoted in IN_TEXT.findall(prose)]
        for line in lines:
            match = re.search(rf"(?:^|python |[\s;]){start}(.*)", line)
            if match is not None:
                found.append((page, re.split(r"\s+#|\s\||\s&&|\s>|;(?=\s|$)", match[1])[0].strip()))
    return sorted(set(found))


def words(text: str) -> list[str]:
    """As a shell takes them; of alternatives the first."""
    text = re.sub(r"\[[^\]]*\]", "", text)  # what may be left out
    return [word.partition("|")[0] for word in shlex.split(text)]


def complaint(parser: argparse.ArgumentParser, given: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the parser says against it. Where a page only names a command, nothing is missing."""
    said: list[str] = []

    def stop(self: argparse.ArgumentParser, message: str) -> None:
        said.append(message)
        raise SystemExit(2)

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "error", stop)
        try:
            parser.parse_args(given)
        except SystemExit:
            pass
        except Exception as error:  # a file that is only named here, or Django's own
            said.append(str(error))
    wrong = [text for text in said if re.search(r"unrecognized|invalid choice|ambiguous|expected", text)]
    return "; ".join(wrong)


def test_every_command_of_manage_py_is_there_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    commands, faults, seen = get_commands(), [], set()
    for page, text in shown(MANAGE):
        name, *given = words(text) or [""]
        if not re.fullmatch(r"[a-z_]+", name):
            continue
        if name not in commands:
            faults.append(f"{page}: there is no `manage.py {name}`")
            continue
        seen.add(name)
        app = commands[name]
        command = load_command_class(app, name) if isinstance(app, str) else app
        if said := complaint(command.create_parser("manage.py", name), given, monkeypatch):
            faults.append(f"{page}: manage.py {text}: {said}")
    assert not faults, "\n".join(faults)
    assert len(seen) >= 15


def test_every_command_of_the_agent_is_there_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    faults, seen = [], set()
    for page, text in shown(AGENT):
        given = words(text)
        if not given or not re.fullmatch(r"[a-z-]+", given[0]):
            continue
        seen.add(given[0])
        if said := complaint(build_parser(), given, monkeypatch):
            faults.append(f"{page}: site_agent {text}: {said}")
    assert not faults, "\n".join(faults)
    assert len(seen) >= 8


def test_every_target_of_make_is_there() -> None:
    text = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][\w-]*):", text, re.MULTILINE))
    named = {words(text)[0] for _page, text in shown(MAKE) if words(text)}
    benches = {path.stem for path in Path(REPOSITORY / "benchmarks").glob("*.py")}
    unknown = {
        name
        for name in named
        if re.fullmatch(r"[a-z][a-z0-9-]*", name)
        and name not in targets
        and not (name.startswith("bench-") and name.removeprefix("bench-").replace("-", "_") in benches)
    }
    assert not unknown


def test_a_wrong_option_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = load_command_class("enclave_jobs", "forget").create_parser("manage.py", "forget")
    assert complaint(parser, ["--dry-run"], monkeypatch) == ""
    assert "unrecognized" in complaint(parser, ["--dry-walk"], monkeypatch)
    assert "invalid choice" in complaint(build_parser(), ["enroll"], monkeypatch)
