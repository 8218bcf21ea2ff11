"""An exported bundle is verified by the command, and one that somebody touched is not."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from contracts.refusal import Refusal
from federation.attestation import bundles, log
from federation.attestation.models import LogEntry
from federation.people.models import User
from federation.studies.models import Study


def verify(capsys: Any, *arguments: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SystemExit) as stopped:
        call_command("verify_bundle", *map(str, arguments), "--json")
    return int(str(stopped.value.code)), json.loads(capsys.readouterr().out)


@pytest.fixture
def bundle(ready: Study, tmp_path: Path) -> Path:
    """The log of a study that two hospitals approved."""
    log.checkpoint()
    log.append("reference.suspended", {"after": "the first checkpoint"})
    path = tmp_path / "bundle.zip"
    call_command("export_bundle", str(path))
    return path


def test_the_whole_log_is_verified_with_the_logs_key(bundle: Path, capsys: Any) -> None:
    capsys.readouterr()
    code, report = verify(capsys, bundle, "--log-key", log.verifier_key())
    assert (code, report["verdict"], report["every_entry"]) == (0, "verified", True)
    assert "complete" not in report, "a script would take every entry for all that is needed"
    assert report["entries"] == LogEntry.objects.count() == 6


def test_a_part_is_verified_by_its_proofs(bundle: Path, audrey: User, tmp_path: Path, capsys: Any) -> None:
    capsys.readouterr()
    part = tmp_path / "part.zip"
    assert bundles.export(audrey, part, first=2, last=3) == 2
    code, report = verify(capsys, part)
    assert (code, report["verdict"], report["every_entry"], report["entries"]) == (3, "incomplete", False, 2)
    assert report["claims"]["the log"]["missing"] and "export_bundle" in report["next"][0]
    with pytest.raises(Refusal, match=r"log\.bad_range"):
        bundles.export(audrey, tmp_path / "none.zip", first=2, last=99)


def test_only_auditors_export(bundle: Path, olga: User, lena: User, alice: User, tmp_path: Path) -> None:
    for person in (olga, lena, alice):
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            bundles.export(person, tmp_path / "mine.zip")
    assert not (tmp_path / "mine.zip").exists()


def test_an_edited_entry_is_found(bundle: Path, tmp_path: Path, capsys: Any) -> None:
    capsys.readouterr()
    edited = tmp_path / "edited.zip"
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(edited, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "entries.jsonl":
                data = data.replace(b"the first checkpoint", b"the last  checkpoint")
            new.writestr(name, data)
    code, report = verify(capsys, edited)
    assert (code, report["verdict"]) == (1, "failed")


def test_on_the_machine_that_keeps_the_log_its_own_key_is_taken_and_elsewhere_it_is_missing(
    bundle: Path, settings: Any, tmp_path: Path, capsys: Any
) -> None:
    capsys.readouterr()
    code, report = verify(capsys, bundle)
    assert (code, report["verdict"]) == (0, "verified")
    assert any("that this machine keeps" in words for words in report["claims"]["the log"]["established"])
    settings.STATE_DIR = tmp_path / "elsewhere"
    code, report = verify(capsys, bundle)
    assert (code, report["code"]) == (3, "bundle.log_key_unknown")
    assert not (tmp_path / "elsewhere").exists(), "checking a bundle makes no log"


def test_the_page_says_verdict_what_is_missing_and_what_to_do(
    bundle: Path, audrey: User, tmp_path: Path, capsys: Any
) -> None:
    part = tmp_path / "part.zip"
    bundles.export(audrey, part, first=2, last=3)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        call_command("verify_bundle", str(part), "--log-key", log.verifier_key())
    page = capsys.readouterr().out
    assert stopped.value.code == 3
    for words in ("Verdict: incomplete", "What is missing:", "4 of the log's 6 entries", "What to do:"):
        assert words in page, page


def test_another_logs_key_does_not_fit(bundle: Path, settings: Any, tmp_path: Path, capsys: Any) -> None:
    capsys.readouterr()
    settings.STATE_DIR = tmp_path
    code, report = verify(capsys, bundle, "--log-key", log.verifier_key())
    assert (code, report["code"]) == (1, "log.bad_checkpoint_signature")


def test_what_is_no_bundle_is_unusable(tmp_path: Path, capsys: Any) -> None:
    for path in (tmp_path / "absent.zip", tmp_path / "text.zip"):
        if path.name == "text.zip":
            path.write_text("hello")
        assert verify(capsys, path)[0] == 2
