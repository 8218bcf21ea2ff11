"""What the auditor decides and watches: reviews of measurements, collateral, and actions in the audit
trail."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from contracts.policy import TdxReference
from federation.attestation import collateral, references, reviews
from federation.attestation.models import (
    CollateralSet,
    Reference,
    Review,
)
from federation.audit.models import AuditEntry
from federation.audit.services import record
from federation.people.models import User
from frontend.activity import ACTIONS
from tests.federation.cast import Hospital
from tests.frontend.page_reader import signed_in, text


@pytest.fixture
def auditor(audrey: User) -> Client:
    return signed_in(audrey)


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


class TestDeeds:
    def test_every_deed_that_the_code_records_has_words(self) -> None:
        recorded = set()
        for package in ("federation", "enclave_jobs", "frontend"):
            for path in Path(package).rglob("*.py"):
                code = path.read_text()
                recorded |= set(re.findall(r"\brecord\(\s*[\w.]+,\s*\"([a-z_.]+)\"", code))
        assert len(recorded) > 30 and recorded <= set(ACTIONS)

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
