"""The log's pages: what they find, what they prove in front of the reader, and what they never show."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import time
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import core
from cryptography import x509
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from attestation.certificates import load_chain
from attestation.pck import SGX_EXTENSION
from attestation.quote import parse as parse_quote
from contracts.log import merkle
from federation.attestation import appraisals, log
from federation.attestation.models import (
    AppraisalRecord,
    CollateralSet,
    LogEntry,
    StoredEvidence,
)
from federation.audit.models import AuditEntry
from federation.people.models import User
from tests.federation.cast import Hospital
from tests.federation.development import expected
from tests.frontend.page_reader import signed_in, text

PPID_OID = "1.2.840.113741.1.13.1.1"


@pytest.fixture
def auditor(audrey: User) -> Client:
    return signed_in(audrey)


def shown(client: Client, query: str) -> list[int]:
    """The indexes on a page of the log, as they stand there."""
    found = re.findall(r'href="/log/(\d+)"', text(client, f"/log?{query}"))
    return [int(index) for index in found]


class TestList:
    def test_every_filter_finds_what_it_says_and_nothing_else(
        self, world: dict[str, Any], auditor: Client, anna: Hospital, barbara: Hospital
    ) -> None:
        whole = shown(auditor, "")
        assert whole == list(range(LogEntry.objects.count()))[::-1]
        rows = {row.index: row for row in LogEntry.objects.all()}
        # Whom a hospital has confirmed are no makers of its approval.
        reported = {index: re.sub(r'"confirmed":\[[^]]*\]', "", row.data) for index, row in rows.items()}
        of_anna = [
            index for index in whole
            if f'"{anna.site.pk}"' in reported[index] and rows[index].kind != "reference.added"
        ]  # fmt: skip
        assert shown(auditor, f"site={anna.site.pk}") == of_anna
        assert len(shown(auditor, f"site={barbara.site.pk}")) == 1  # her approval
        for name, value in (
            ("kind", "approval"), ("verdict", "refused"), ("program", "client_slice"),
            ("code", "attest.measurement"),
        ):  # fmt: skip
            fitting = [index for index in whole if getattr(rows[index], name) == value]
            assert fitting and shown(auditor, f"{name}={value}") == fitting
        assert shown(auditor, f"study={world['study_id']}&kind=appraisal&verdict=accepted") == [
            world["index"]
        ]
        assert shown(auditor, f"site={anna.site.pk}&code=attest.measurement&verdict=accepted") == []

    def test_days_are_whole_days_of_utc(self, world: dict[str, Any], auditor: Client) -> None:
        moments = {
            0: "2026-03-01T23:59:59+00:00",
            1: "2026-03-02T00:00:00+00:00",
            2: "2026-03-02T23:59:59+00:00",
        }
        LogEntry.objects.update(at=datetime.fromisoformat("2026-03-04T00:00:00+00:00"))
        for index, moment in moments.items():
            LogEntry.objects.filter(pk=index).update(at=datetime.fromisoformat(moment))
        assert shown(auditor, "since=2026-03-02&until=2026-03-02") == [2, 1]
        assert shown(auditor, "until=2026-03-01") == [0]
        assert shown(auditor, "since=2026-03-05") == []

    def test_pages_follow_each_other_by_key_and_none_is_lost_or_shown_twice(
        self, world: dict[str, Any], auditor: Client
    ) -> None:
        for number in range(120):
            log.append("test.entry", {"n": number, "site": world["site_id"]})
        for query in ("", f"site={world['site_id']}&"):
            wanted = shown(auditor, query + "before=99999")
            seen, before = list(wanted), wanted[-1]
            while page := shown(auditor, f"{query}before={before}"):
                assert len(page) <= 50
                seen, before = seen + page, page[-1]
            entries = LogEntry.objects.all()
            if query:
                entries = entries.filter(mentions__site=world["site_id"])
            assert seen == list(entries.order_by("-index").values_list("index", flat=True))

    def test_what_was_asked_for_stays_in_the_form_and_in_the_links(
        self, world: dict[str, Any], auditor: Client
    ) -> None:
        for number in range(60):
            log.append("appraisal.note", {"n": number, "values": {"program": "aggregator"}})
        page = text(auditor, "/log?program=aggregator&since=2020-01-01")
        assert '<option value="aggregator" selected>' in page and 'value="2020-01-01"' in page
        assert re.search(r'href="\?program=aggregator&amp;since=2020-01-01&amp;before=\d+"', page)

    @pytest.mark.parametrize(
        "query", ["since=yesterday", "verdict=perhaps", "before=-1", "before=9e9", "site=x"]
    )
    def test_what_makes_no_sense_breaks_nothing(
        self, world: dict[str, Any], auditor: Client, query: str
    ) -> None:
        assert auditor.get(f"/log?{query}").status_code == 200

    def test_a_lead_finds_the_entries_of_his_studies_only(
        self, world: dict[str, Any], lena: User, ludo: User
    ) -> None:
        assert shown(signed_in(ludo), "") == []
        seen = shown(signed_in(lena), "")
        assert seen == list(
            LogEntry.objects.filter(study=world["study_id"])
            .order_by("-index")
            .values_list("index", flat=True)
        )


class TestEntry:
    def test_every_check_stands_there_with_what_was_expected_and_found(
        self, world: dict[str, Any], auditor: Client
    ) -> None:
        record = AppraisalRecord.objects.get(verdict="refused")
        page = text(auditor, f"/log/{record.log_entry_id}")
        assert all(f"<code>{check['name']}</code>" in page for check in record.checks)
        failed = next(check for check in record.checks if check["outcome"] == "fail")
        assert failed["expected"] in page and failed["found"] in page
        assert "attest.measurement" in page and "DEVELOPMENT" in page

    def test_the_proof_on_the_page_leads_from_the_entry_to_the_checkpoint(
        self, world: dict[str, Any], auditor: Client
    ) -> None:
        for number in range(9):
            log.append("test.entry", {"n": number})
        for index in range(LogEntry.objects.count()):
            page = text(auditor, f"/log/{index}")
            steps = re.search(r'<ol class="steps">(.*?)</ol>', page, re.S)
            assert steps is not None
            values = re.findall(r'class="hash strong">([0-9a-f]{64})<', steps.group(1))
            pairs = re.findall(r'title="([0-9a-f]{64})"', steps.group(1))
            data = LogEntry.objects.get(pk=index).data.encode()
            assert values[0] == merkle.leaf_hash(data).hex()
            for step, (left, right) in enumerate(zip(pairs[::2], pairs[1::2], strict=True)):
                assert values[step] in (left, right)
                assert values[step + 1] == merkle.node_hash(bytes.fromhex(left), bytes.fromhex(right)).hex()
            assert values[-1] == values[-2] == log.checkpoint().root
            assert "proved to be in the log" in page

    def test_an_entry_that_somebody_edited_is_shown_as_not_proved(
        self, world: dict[str, Any], auditor: Client
    ) -> None:
        row = LogEntry.objects.get(pk=world["index"])
        LogEntry.objects.filter(pk=row.pk).update(data=row.data.replace('"accepted"', '"rejected"'))
        page = text(auditor, f"/log/{row.pk}")
        assert "not proved" in page and "log.not_included" in page
        assert "proved to be in the log" not in page

    def test_a_checkpoint_that_somebody_else_signed_proves_nothing(
        self, world: dict[str, Any], auditor: Client, settings: Any, tmp_path: Path
    ) -> None:
        log.checkpoint()
        settings.STATE_DIR = tmp_path / "elsewhere"
        settings.STATE_DIR.mkdir()
        assert "log.bad_checkpoint_signature" in text(auditor, f"/log/{world['index']}")

    def test_what_changed_since_the_sites_earlier_evidence_is_marked(
        self, world: dict[str, Any], auditor: Client
    ) -> None:
        record = AppraisalRecord.objects.get(verdict="refused")
        page = text(auditor, f"/log/{record.log_entry_id}")
        assert f"<mark>{'e' * 64}</mark>" in page and f"<mark>{'refused'}</mark>" in page
        assert f'href="/log/{world["index"]}"' in page
        first = text(auditor, f"/log/{world['index']}")
        assert "first evidence of this enclave" in first

    def test_evidence_of_another_site_is_not_taken_for_an_earlier_one(
        self, world: dict[str, Any], auditor: Client, barbara: Hospital
    ) -> None:
        evidence = world["host"].evidence(world["run"])
        now = int(time.time())
        appraisals.judge(evidence, run=world["run"], expected=expected(evidence), at=now, site=barbara.site)
        latest = AppraisalRecord.objects.get(site=barbara.site)
        assert "first evidence of this enclave" in text(auditor, f"/log/{latest.log_entry_id}")


class TestRawEvidence:
    def test_an_auditor_gets_the_very_bytes_and_that_he_did_is_kept(
        self, world: dict[str, Any], auditor: Client, audrey: User
    ) -> None:
        answer = auditor.get(f"/log/{world['index']}/raw/{world['sha256']}")
        assert hashlib.sha256(answer.content).hexdigest() == world["sha256"]
        assert answer.headers["Content-Disposition"].startswith("attachment")
        entry = AuditEntry.objects.get(action="evidence.downloaded")
        assert (entry.actor, entry.facts["sha256"]) == (audrey.email, world["sha256"])

    def test_the_policy_is_for_whoever_sees_the_entry(self, world: dict[str, Any], lena: User) -> None:
        named = json.loads(LogEntry.objects.get(pk=world["index"]).data)["body"]["policy"]
        assert signed_in(lena).get(f"/log/{world['index']}/raw/{named}").status_code == 200

    def test_what_an_entry_does_not_name_is_not_found_through_it(
        self, world: dict[str, Any], auditor: Client
    ) -> None:
        assert auditor.get(f"/log/0/raw/{world['sha256']}").status_code == 404

    def test_the_ppid_is_in_the_quote_and_nowhere_else(self, world: dict[str, Any], auditor: Client) -> None:
        ppid = _ppid(bytes(StoredEvidence.objects.get(pk=world["sha256"]).data))
        rows = json.dumps(
            [*LogEntry.objects.values("data"), *AppraisalRecord.objects.values("checks", "claims"),
             *AuditEntry.objects.values("facts"), *CollateralSet.objects.values("parts")]
        ).lower()  # fmt: skip
        assert ppid.hex() not in rows
        for index in range(LogEntry.objects.count()):
            assert ppid.hex() not in text(auditor, f"/log/{index}").lower()
        assert "PPID" in text(auditor, "/log")


def _ppid(quote: bytes) -> bytes:
    leaf = load_chain(parse_quote(quote).pck_chain, "chain")[0]
    value = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(SGX_EXTENSION)).value
    for pair in core.SequenceOf.load(value.value, spec=core.Any):  # type: ignore[attr-defined]
        oid, octets = core.Sequence.load(pair.dump())[0], core.Sequence.load(pair.dump())[1]
        if oid.dotted == PPID_OID:
            assert len(octets.native) == 16
            return bytes(octets.native)
    raise AssertionError("the PCK certificate names no PPID")


class TestExport:
    def test_the_bundle_from_the_page_is_verified_offline(
        self, world: dict[str, Any], auditor: Client, tmp_path: Path, capsys: Any
    ) -> None:
        answer = auditor.post(reverse("log-export"))
        path = tmp_path / "bundle.zip"
        path.write_bytes(b"".join(answer.streaming_content))  # type: ignore[attr-defined]
        key = re.search(r"--log-key '(\S+)'", html.unescape(text(auditor, "/log")))
        assert key is not None
        with pytest.raises(SystemExit) as stopped:
            call_command("verify_bundle", str(path), "--log-key", key.group(1), "--json")
        report = json.loads(capsys.readouterr().out)
        assert (stopped.value.code, report["verdict"], report["every_entry"]) == (0, "verified", True)
        said = json.dumps(report)
        assert "Acceptances reached again from the raw evidence" in said
        assert "Refusals reached again from the raw evidence" in said
        with zipfile.ZipFile(path) as bundle:
            assert "PPID" in json.loads(bundle.read("bundle.json"))["notice"]

    def test_a_part_holds_what_was_asked_for(self, world: dict[str, Any], auditor: Client) -> None:
        answer = auditor.post(reverse("log-export"), {"first": "1", "last": "2"})
        data = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            assert len(bundle.read("entries.jsonl").splitlines()) == 2

    @pytest.mark.parametrize("form", [{"first": "x"}, {"last": "99999"}, {"first": "3", "last": "1"}])
    def test_a_range_that_is_not_there_is_refused_on_the_page(
        self, world: dict[str, Any], auditor: Client, form: dict[str, str]
    ) -> None:
        page = auditor.post(reverse("log-export"), form, follow=True).content.decode()
        assert "log.bad_range" in page

    def test_a_bundle_that_would_take_too_long_is_for_the_command_line(
        self, world: dict[str, Any], auditor: Client, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr("frontend.views.log.IN_BROWSER", 3)
        page = auditor.post(reverse("log-export"), follow=True).content.decode()
        assert "bundle.too_long" in page and "export_bundle" in page


class TestEvidenceOfASite:
    def test_it_has_all_of_the_sites_evidence_and_marks_what_is_new(
        self, world: dict[str, Any], auditor: Client, anna: Hospital, barbara: Hospital
    ) -> None:
        page = auditor.get(reverse("site-evidence", args=[anna.site.pk]))
        rows = page.context["rows"]
        assert [line["row"].pk for line in rows] == list(
            AppraisalRecord.objects.filter(site=anna.site).order_by("-pk").values_list("pk", flat=True)
        )
        assert [line["new"] for line in rows] == [True, False]  # the later measurement differs
        assert "Quarantined" in page.content.decode()
        refused = auditor.get(reverse("site-evidence", args=[anna.site.pk]) + "?verdict=refused")
        assert [line["row"].verdict for line in refused.context["rows"]] == ["refused"]
        empty = auditor.get(reverse("site-evidence", args=[barbara.site.pk])).content.decode()
        assert "No evidence yet" in empty

    def test_another_study_of_another_lead_shows_none(
        self, world: dict[str, Any], ludo: User, anna: Hospital
    ) -> None:
        assert signed_in(ludo).get(reverse("site-evidence", args=[anna.site.pk])).context["rows"] == []
