"""A bundle checked in the browser: the three verdicts in words, what is missing, and what to do."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from contracts.signing import SigningKey
from federation.attestation import bundles, log
from federation.audit.models import AuditEntry
from federation.people.models import User
from tests.frontend import gallery
from tests.frontend.gallery import Shown
from tests.frontend.test_every_page import faults_of
from tests.log.conftest import rewrite

Bundle = Callable[..., bytes]


@pytest.fixture
def bundle(world: dict[str, Any], tmp_path: Path) -> Bundle:
    """The log of a full installation, or a part of it, or one from which something was taken or changed."""

    def make(*, last: int | None = None, change: Callable[[dict[str, bytes]], None] | None = None) -> bytes:
        path = tmp_path / "bundle.zip"
        bundles.export(None, path, last=last)
        return (rewrite(path, change) if change else path).read_bytes()

    return make


def without_attachments(members: dict[str, bytes]) -> None:
    for name in [name for name in members if name.startswith("attachments/")]:
        del members[name]


def with_an_edited_entry(members: dict[str, bytes]) -> None:
    members["entries.jsonl"] = members["entries.jsonl"].replace(b'"by":"', b'"by":"x', 1)


def posted(client: Client, data: bytes, log_key: str = "") -> str:
    upload = SimpleUploadedFile("bundle.zip", data)
    answer = client.post(reverse("log-check"), {"bundle": upload, "log_key": log_key})
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", html.unescape(answer.content.decode())).split())


@pytest.fixture
def auditor(audrey: User) -> Client:
    client = Client()
    client.force_login(audrey)
    return client


def test_a_whole_log_is_verified_claim_by_claim(auditor: Client, bundle: Bundle) -> None:
    page = posted(auditor, bundle())
    assert "Verified All that a bundle can show was shown." in page
    assert "that this machine keeps" in page and "What to do" not in page
    for claim in ("The log itself", "Attachments", "Evidence of enclaves", "Approvals of the hospitals"):
        assert f"{claim} Verified" in page


def test_a_part_is_incomplete_and_says_what_is_missing_and_what_to_do(
    auditor: Client, bundle: Bundle
) -> None:
    page = posted(auditor, bundle(last=3))
    assert "Incomplete Nothing contradicts it" in page and "bundle.part" in page
    assert "entries are not here; any of them may matter" in page and "export_bundle FILE" in page


def test_a_log_without_its_attachments_is_incomplete(auditor: Client, bundle: Bundle) -> None:
    page = posted(auditor, bundle(change=without_attachments))
    assert "Incomplete Nothing contradicts it" in page and "which is not here" in page


def test_a_changed_log_has_failed(auditor: Client, bundle: Bundle) -> None:
    page = posted(auditor, bundle(change=with_an_edited_entry))
    assert "Failed Something contradicts" in page and "log.not_included" in page


def test_the_log_of_somebody_else_is_incomplete_without_his_key_and_failed_by_ours(
    auditor: Client, bundle: Bundle, settings: Any, tmp_path: Path
) -> None:
    ours, data = log.verifier_key(), bundle()
    assert "Verified All" in posted(auditor, data, ours)
    settings.STATE_DIR = tmp_path / "another"
    settings.STATE_DIR.mkdir()
    assert "bundle.log_key_unknown" in posted(auditor, data)
    assert "log.bad_checkpoint_signature" in posted(auditor, data, log.verifier_key())


def test_what_is_no_bundle_or_no_key_is_refused_in_words(auditor: Client, bundle: Bundle) -> None:
    assert "not a usable audit bundle" in posted(auditor, b"hello")
    assert "log.invalid_note" in posted(auditor, bundle(), SigningKey.generate().public)


def test_a_bundle_that_is_too_large_for_the_browser_is_for_the_command_line(
    auditor: Client, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frontend.forms.log.MAX_BUNDLE_BYTES", 100)
    assert "check it with the command below" in posted(auditor, bundle())


def test_checking_keeps_nothing(auditor: Client, bundle: Bundle) -> None:
    data = bundle()
    before = (AuditEntry.objects.count(), log.size())
    posted(auditor, data)
    assert (AuditEntry.objects.count(), log.size()) == before


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_axe_finds_nothing_of_weight_in_any_verdict(
    audrey: User, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The browser asks for an address; what it is shown is the answer to a form with that bundle."""
    cases = {
        "verified": bundle(),
        "incomplete": bundle(change=without_attachments),
        "failed": bundle(change=with_an_edited_entry),
    }

    class Posting(Client):
        def get(self, path: str, *args: Any, **more: Any) -> HttpResponse:  # type: ignore[override]
            case = path.removeprefix("/log/check?")
            if case not in cases:
                return super().get(path, *args, **more)
            form = {"bundle": SimpleUploadedFile("bundle.zip", cases[case])}
            return super().post("/log/check", form)

    monkeypatch.setattr(gallery, "Client", Posting)
    wanted = [Shown(f"log-check-{case}", "audrey", f"/log/check?{case}") for case in cases]
    faults = faults_of({"audrey": audrey}, wanted, "full")
    assert not faults, "\n".join(faults)
