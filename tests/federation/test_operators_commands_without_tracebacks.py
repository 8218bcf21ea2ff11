"""No traceback reaches an operator: a database or disk of no use has words, the rest a reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from error_catalogue.last_resort import LOG
from federation import command_line
from tests.support import namespaces
from tests.support.installation import REPOSITORY


def manage(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *words], cwd=REPOSITORY, env={**os.environ, **variables},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    nobody = "postgres://anna:geheim4711@127.0.0.1:9/fedslice"
    done = manage(
        "export_bundle", str(tmp_path / "a.zip"), FEDSLICE_STATE=str(tmp_path), FEDSLICE_DATABASE=nobody
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "[coordinator.database]" in done.stderr and "FEDSLICE_DATABASE" in done.stderr, done.stderr
    assert "geheim" not in done.stderr


def test_a_database_without_tables_says_migrate(tmp_path: Path) -> None:
    done = manage("export_bundle", str(tmp_path / "a.zip"), FEDSLICE_STATE=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "[coordinator.not_migrated]" in done.stderr and "manage.py migrate" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("disk", "code"), [("size=64k", "coordinator.no_space"), ("size=64k,ro", "coordinator.read_only")]
)
def test_a_disk_that_takes_nothing_is_said(tmp_path: Path, disk: str, code: str) -> None:
    done = namespaces.shell(
        f"mount -t tmpfs -o {disk} t {quote(str(tmp_path))} && {namespaces.PYTHON} manage.py migrate",
        FEDSLICE_STATE=str(tmp_path / "state"),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"[{code}]" in done.stderr, done.stderr


def test_what_nobody_foresaw_is_a_line_with_a_reference_and_the_log_has_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fall_over(*_: object) -> None:
        raise ZeroDivisionError("Mrs. Canary, born 1950")

    monkeypatch.setattr(command_line, "execute_from_command_line", fall_over)
    monkeypatch.setenv("FEDSLICE_STATE", str(tmp_path))
    assert command_line.run(["manage.py", "anything"]) == 1
    shown = capsys.readouterr().err
    assert "reference" in shown and str(tmp_path / LOG) in shown and "Canary" not in shown
    assert "ZeroDivisionError" in (tmp_path / LOG).read_text()
    with pytest.raises(ZeroDivisionError):
        command_line.run(["manage.py", "anything", "--traceback"])
