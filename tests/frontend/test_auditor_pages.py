"""The auditor's pages: what they find, what they prove in front of the reader, and what they never show."""

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
from contracts.policy import TdxReference
from federation.attestation import appraisals, collateral, log, references, reviews
from federation.attestation.models import (
    AppraisalRecord,
    CollateralSet,
    LogEntry,
    Reference,
    Review,
    StoredEvidence,
)
from federation.audit.models import AuditEntry
from federation.audit.services import record
from federation.people.models import User
from frontend.deeds import DEEDS
from tests.federation.cast import Hospital
from tests.federation.development import expected

PPID_OID = "1.2.840.113741.1.13.1.1"


def signed_in(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def auditor(audrey: User) -> Client:
    return signed_in(audrey)


def text(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return str(answer.content.decode())


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
        told = {index: re.sub(r'"confirmed":\[[^]]*\]', "", row.data) for index, row in rows.items()}
        of_anna = [
            index for index in whole
            if f'"{anna.site.pk}"' in told[index] and rows[index].kind != "reference.added"
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
        assert (stopped.value.code, report["verdict"], report["complete"]) == (0, "verified", True)
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


class TestReviews:
    def test_old_and_new_stand_side_by_side_with_whom_it_touches(
        self, world: dict[str, Any], auditor: Client
    ) -> None:
        page = text(auditor, reverse("review", args=[world["review_id"]]))
        assert f"{2:064x}" in page and f'<mark class="hash">{"e" * 64}</mark>' in page
        assert page.count("<mark") == 1  # what stayed the same is not marked
        assert "St. Anna" in page and "St. Barbara" not in page and "Triage" in page

    def test_the_reason_stands_on_the_sites_page_until_two_people_have_approved(
        self, world: dict[str, Any], olga: User, audrey: User, alice: User, bob: User
    ) -> None:
        site = reverse("site", args=[world["site_id"]])
        other = reverse("site", args=[bob.site_id])
        assert "reference.under_review" in text(signed_in(alice), site)
        assert "reference.under_review" not in text(signed_in(bob), other)
        address = reverse("review-vote", args=[world["review_id"], "approve"])
        for person in (olga, audrey):
            assert "Review a changed measurement" in text(signed_in(person), "/")
            signed_in(person).post(address, {"note": "rebuilt"})
        assert "reference.under_review" not in text(signed_in(alice), site)
        assert Reference.objects.filter(measurement="e" * 64, suspended_at=None).exists()
        assert "Review a changed measurement" not in text(signed_in(olga), "/")

    def test_a_rejection_stays_on_the_sites_page(
        self, world: dict[str, Any], audrey: User, alice: User
    ) -> None:
        signed_in(audrey).post(reverse("review-vote", args=[world["review_id"], "reject"]))
        site = reverse("site", args=[world["site_id"]])
        assert "reference.rejected" in text(signed_in(alice), site)

    def test_an_operator_puts_a_change_forward_and_it_is_not_in_force(
        self, world: dict[str, Any], olga: User
    ) -> None:
        form = {"program": "aggregator", "root": "development", "mrenclave": "D" * 64,
                "source_commit": "c0ffee", "reason": "release 2"}  # fmt: skip
        page = signed_in(olga).post(reverse("reference-new"), form, follow=True).content.decode()
        assert "A changed measurement of aggregator" in page and "d" * 64 in page
        assert not Reference.objects.filter(measurement="d" * 64).exists()
        again = signed_in(olga).post(reverse("reference-new"), form)
        assert again.status_code == 422 and "review.open" in again.content.decode()

    @pytest.mark.parametrize(
        "identity",
        [{}, {"mrenclave": "xyz"}, {"mrsigner": "a" * 64}, {"mrtd": "a" * 96, "rtmrs": "a" * 96}],
    )
    def test_an_identity_that_is_none_is_refused_and_what_was_typed_stays(
        self, world: dict[str, Any], olga: User, identity: dict[str, str]
    ) -> None:
        form = {"program": "split_server", "root": "development", "source_commit": "kept-commit",
                "reason": "first", **identity}  # fmt: skip
        answer = signed_in(olga).post(reverse("reference-new"), form)
        assert answer.status_code == 422
        assert "reference.invalid" in answer.content.decode() and "kept-commit" in answer.content.decode()

    def test_a_tdx_identity_is_put_in_force_as_the_first_of_its_program(
        self, world: dict[str, Any], olga: User
    ) -> None:
        form = {"program": "split_server", "root": "intel", "mrtd": "a" * 96,
                "rtmrs": "\n".join(["b" * 96] * 4), "source_commit": "c", "reason": "first"}  # fmt: skip
        assert signed_in(olga).post(reverse("reference-new"), form).status_code == 302
        row = Reference.objects.get(program="split_server")
        named = TdxReference("split_server", mrtd="a" * 96, rtmrs=("b" * 96,) * 4).measurement
        assert (row.measurement, row.root, row.added_by) == (named, "intel", olga.email)

    @pytest.mark.parametrize("line", ["xfrm", "xfrm zz", "unknown 1", "config_svn x", "mrenclave 1 2"])
    def test_how_it_may_be_started_is_part_of_an_identity_and_read_strictly(
        self, world: dict[str, Any], olga: User, line: str
    ) -> None:
        form = {"program": "split_server", "root": "intel", "mrenclave": "a" * 64, "source_commit": "c",
                "reason": "first"}  # fmt: skip
        refused = signed_in(olga).post(reverse("reference-new"), {**form, "started": line})
        assert refused.status_code == 422 and "reference.invalid" in refused.content.decode()
        started = "xfrm 00000000000000e7\nconfig_svn 2"
        assert signed_in(olga).post(reverse("reference-new"), {**form, "started": started}).status_code == 302
        values = Reference.objects.get(program="split_server").values
        assert (values["xfrm"], values["config_svn"], values["flags"]) == ("0" * 14 + "e7", 2, "0" * 15 + "5")

    def test_suspending_wants_a_reason_and_shows_it(self, world: dict[str, Any], olga: User) -> None:
        client, row = signed_in(olga), references.in_force("development", ("aggregator",))[0]  # type: ignore[arg-type]
        address = reverse("reference-suspend", args=[row.pk])
        client.post(address)
        row.refresh_from_db()
        assert row.suspended_at is None
        page = client.post(address, {"why": "a bug was found"}, follow=True).content.decode()
        assert "a bug was found" in page

    def test_a_site_admin_sees_no_other_hospitals_review(
        self, world: dict[str, Any], alice: User, carol: User
    ) -> None:
        assert f"/reviews/{world['review_id']}" in text(signed_in(alice), "/references")
        assert f"/reviews/{world['review_id']}" not in text(signed_in(carol), "/references")


class TestCollateral:
    def test_what_ends_first_stands_first_with_its_state(
        self, world: dict[str, Any], auditor: Client
    ) -> None:
        now = int(time.time())
        collateral.development("sgx", now)
        row = CollateralSet.objects.get()
        parts = {part["name"]: part for part in row.parts}
        parts["PCK CRL"]["end"], parts["TCB info"]["end"] = now - 60, now + 3 * 86400
        CollateralSet.objects.update(parts=list(parts.values()))
        page = text(auditor, "/collateral")
        order = re.findall(r'data-label="Part">([^<]+)<', page)
        assert order[:2] == ["PCK CRL", "TCB info"] and len(order) == 7
        states = re.findall(r'class="badge (bad|warn|good)">(ended|\d+ days?)<', page)
        assert [tone for tone, _ in states][:3] == ["bad", "warn", "good"]
        assert "1 part has ended" in page and "Floors" in page

    def test_a_platform_without_collateral_is_named_with_the_fault(
        self, world: dict[str, Any], auditor: Client
    ) -> None:
        collateral.want("tdx", "90c06f000000", "platform")
        page = text(auditor, "/collateral")
        assert "Collateral is missing" in page and "90c06f000000" in page
        collateral.development("sgx", int(time.time()))
        page = text(auditor, "/collateral")
        assert "all in date" not in page and "missing for 1 kind of platform" in page


def test_all_pages_keep_to_the_policy_without_inline_script_or_style(
    world: dict[str, Any], auditor: Client
) -> None:
    assert reviews.VOTES == 2 and Review.objects.count() == 1
    for address in ("/log", f"/log/{world['index']}", "/references", f"/reviews/{world['review_id']}",
                    "/collateral"):  # fmt: skip
        page = text(auditor, address)
        assert not re.search(r"<script(?![^>]* src=)|\son[a-z]+=|javascript:|\sstyle=", page), address


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


class TestDeeds:
    def test_every_deed_that_the_code_records_has_words(self) -> None:
        recorded = set()
        for package in ("federation", "enclave_jobs", "frontend"):
            for path in Path(package).rglob("*.py"):
                code = path.read_text()
                recorded |= set(re.findall(r"\brecord\(\s*[\w.]+,\s*\"([a-z_.]+)\"", code))
        assert len(recorded) > 30 and recorded <= set(DEEDS)

    def test_filters_find_what_they_say_and_nothing_else(
        self, world: dict[str, Any], auditor: Client, lena: User
    ) -> None:
        def found(query: str) -> list[int]:
            return [entry["row"].pk for entry in auditor.get(f"/audit?{query}").context["entries"]]

        rows = AuditEntry.objects.order_by("-pk")
        assert found("") == [row.pk for row in rows]
        assert found(f"actor={lena.email}") == [row.pk for row in rows if row.actor == lena.email] != []
        assert found("action=study.") == [r.pk for r in rows if r.action.startswith("study.")] != []
        study = f"study:{world['study_id']}"
        assert found(f"target={study}") == [row.pk for row in rows if row.target == study] != []
        assert found("target=run:&action=run.") == [r.pk for r in rows if r.action == "run.launched"] != []
        newest = rows[0].pk
        moment = datetime.fromisoformat("2026-03-02T00:00:00+00:00")
        AuditEntry.objects.filter(pk=newest).update(at=moment)
        assert found("since=2026-03-02&until=2026-03-02") == [newest]
        assert found("until=2026-03-01") == []
        assert found("since=yesterday") == [] and found("before=x") == found("")

    def test_pages_follow_each_other_and_none_is_lost(self, auditor: Client, audrey: User) -> None:
        for number in range(120):
            record(audrey, "log.exported", f"log:{number}")
        seen: list[int] = []
        query = "?actor=" + audrey.email
        while query:
            page = auditor.get("/audit" + query)
            seen += [entry["row"].pk for entry in page.context["entries"]]
            query = page.context["page"].older
        assert seen == list(AuditEntry.objects.order_by("-pk").values_list("pk", flat=True))

    def test_a_site_admin_reads_what_concerns_his_hospital_only(
        self, world: dict[str, Any], alice: User, anna: Hospital
    ) -> None:
        entries = signed_in(alice).get("/audit").context["entries"]
        own = f"site:{anna.site.pk}"
        assert entries and all(own in (entry["row"].actor, entry["row"].target) for entry in entries)
