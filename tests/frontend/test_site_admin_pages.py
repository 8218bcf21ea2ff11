"""What a hospital's admin finds on the pages of their hospital: connection, maintenance, receipts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation

from contracts.refusal import Refusal
from enclave_jobs.runs.models import Contribution, Run
from federation.attestation import references
from federation.attestation.models import Reference
from federation.audit.models import AuditEntry
from federation.people.models import User
from federation.sites import maintenance
from federation.sites.models import MaintenanceWindow
from federation.studies import services
from federation.studies.models import Study
from federation.studies.plan import Plan
from frontend.timeline import waits_for
from tests.federation.cast import MODEL, Hospital
from tests.frontend.fullness import live_on
from tests.frontend.page_reader import signed_in
from tests.support.proofs import freeze as freeze_tried

BEAT = {"agent_version": "0.1", "runtime": "development"}
FAILED = {
    "name": "DNS", "outcome": "fail", "found": "coordinator.example has no address here",
    "hint": "Ask your network team.", "letter": "Please let this machine resolve <coordinator.example>.",
}  # fmt: skip
WELL = {"name": "disk", "outcome": "pass", "found": "90 GiB free", "hint": "", "letter": ""}


@pytest.fixture
def admin(alice: User) -> Client:
    return signed_in(alice)


class TestConnection:
    def test_a_red_row_stands_first_and_says_what_to_do_and_offers_a_text_to_send(
        self, admin: Client, anna: Hospital
    ) -> None:
        anna.call("POST", "heartbeat", {**BEAT, "checks": [WELL, FAILED]})
        page = admin.get(reverse("site-connection", args=[anna.site.pk])).content.decode()
        assert page.index(">DNS</strong>") < page.index(">disk</strong>")
        assert "Ask your network team." in page and "1 check failed" in page
        assert "Please let this machine resolve &lt;coordinator.example&gt;." in page
        assert 'data-copy="letter-1"' in page

    def test_a_heartbeat_without_checks_leaves_the_last_ones_standing(
        self, admin: Client, anna: Hospital
    ) -> None:
        anna.call("POST", "heartbeat", {**BEAT, "checks": [FAILED]})
        anna.call("POST", "heartbeat", {**BEAT, "checks": []})
        assert "1 check failed" in admin.get(reverse("site-connection", args=[anna.site.pk])).content.decode()

    def test_asking_for_a_check_reaches_the_agent_once(self, admin: Client, anna: Hospital) -> None:
        assert anna.call("POST", "heartbeat", BEAT).json()["check"] is False
        admin.post(reverse("site-check", args=[anna.site.pk]))
        assert anna.call("POST", "heartbeat", BEAT).json()["check"] is True
        assert anna.call("POST", "heartbeat", {**BEAT, "checks": [WELL]}).json()["check"] is False

    def test_the_list_is_sent_again_only_when_it_has_changed(self, admin: Client, anna: Hospital) -> None:
        address = reverse("site-checks", args=[anna.site.pk])
        anna.call("POST", "heartbeat", {**BEAT, "checks": [WELL]})
        shown = admin.get(address).content.decode().split("?shown=")[1].split('"')[0]
        assert admin.get(address, {"shown": shown}).status_code == 204
        anna.call("POST", "heartbeat", {**BEAT, "checks": [FAILED]})
        assert admin.get(address, {"shown": shown}).status_code == 200

    def test_before_the_agent_has_said_a_word_there_is_a_text_for_the_firewall_team(
        self, admin: Client, anna: Hospital
    ) -> None:
        page = admin.get(reverse("site-connection", args=[anna.site.pk])).content.decode()
        assert "No check yet" in page and "Destination: 127.0.0.1, TCP port 8000" in page


def planned(hospital: Hospital, by: User, **offsets: Any) -> MaintenanceWindow:
    now = timezone.now()
    weekly = offsets.pop("weekly", False)
    starts = now + timedelta(**offsets)
    maintenance.plan(by, hospital.site, starts, starts + timedelta(hours=2), weekly=weekly, reason="backup")
    return MaintenanceWindow.objects.latest("pk")


class TestMaintenance:
    def test_in_a_window_the_agent_is_offered_no_work_and_the_run_says_why_it_waits(
        self, world: dict[str, Any], anna: Hospital, alice: User
    ) -> None:
        from enclave_jobs.jobs import leases
        from enclave_jobs.jobs.models import JobKind
        from enclave_jobs.runs.models import Run

        Run.objects.filter(pk=world["run_id"]).update(state="running")
        run = Run.objects.get(pk=world["run_id"])
        opened = run.rounds.get()
        late = opened.contributions.get(site=anna.site)
        sites = {anna.site.pk: None}
        leases.offer(run, JobKind.TRAIN, "enclave", round=opened, common={}, sites=sites)
        window = planned(anna, alice, hours=-1)
        assert leases.lease(anna.site) is None
        assert "St. Anna is in a maintenance window until" in waits_for(run, opened, [late])
        maintenance.remove(alice, anna.site, window.pk)
        assert leases.lease(anna.site) is not None
        assert "maintenance" not in waits_for(run, opened, [late])

    def test_a_weekly_window_comes_back_each_week_and_only_then(self, anna: Hospital, alice: User) -> None:
        window = planned(anna, alice, hours=-1, weekly=True)
        week = timedelta(days=7)
        for number in (0, 1, 30):
            inside = window.starts + number * week + timedelta(hours=1)
            assert window.is_open(inside)
            assert window.occurrence(inside)[0] == window.starts + number * week
            assert not window.is_open(inside + timedelta(hours=1))
            assert not window.is_open(inside - timedelta(hours=1, seconds=1))

    def test_times_are_read_in_the_zone_of_the_reader(self, admin: Client, anna: Hospital) -> None:
        form = {"starts": "2199-07-01T22:00", "ends": "2199-07-01T23:30", "zone": "Europe/Zurich"}
        assert admin.post(reverse("site-maintenance", args=[anna.site.pk]), form).status_code == 302
        window = MaintenanceWindow.objects.get()
        assert window.starts == datetime(2199, 7, 1, 20, 0, tzinfo=UTC)
        assert AuditEntry.objects.filter(action="maintenance.planned").count() == 1

    def test_a_window_that_makes_no_sense_is_refused_and_what_was_typed_stays(
        self, admin: Client, anna: Hospital
    ) -> None:
        form = {"starts": "2199-07-02T22:00", "ends": "2199-07-01T23:30", "reason": "new switch"}
        page = admin.post(reverse("site-maintenance", args=[anna.site.pk]), form)
        assert page.status_code == 422
        assert "maintenance.bad_time" in page.content.decode() and "new switch" in page.content.decode()

    def test_nobody_plans_for_another_hospital(self, carol: User, lena: User, anna: Hospital) -> None:
        for person in (carol, lena):
            with pytest.raises(Refusal, match=r"auth\.forbidden"):
                planned(anna, person, hours=1)
        address = reverse("site-maintenance", args=[anna.site.pk])
        assert signed_in(carol).post(address, {}).status_code == 404
        assert signed_in(lena).post(address, {}).status_code == 403


class TestReceipts:
    def test_the_sheet_of_a_run_has_what_a_data_protection_officer_asks(
        self, world: dict[str, Any], alice: User, anna: Hospital
    ) -> None:
        run = live_on(world, rounds=3)
        page = signed_in(alice).get(reverse("site-receipts-of-run", args=[anna.site.pk, run.pk]), follow=True)
        text = page.content.decode()
        mine = Contribution.objects.filter(site=anna.site, round__run=run, state="accepted")
        assert mine.count() == 3
        assert page.context["total"]["out"] == sum(row.bytes or 0 for row in mine)
        # Round 1 starts from the public model; every later one from what the round before it gave.
        assert [line["bytes_in"] for line in page.context["lines"]] == [None, 655_360, 655_360, 655_360]
        for row in mine:
            assert row.blob[:16] in text
        enclave = run.enclaves.get()
        assert enclave.measurement in text and enclave.signing_key in text
        words = re.sub(r"<[^>]+>", "", text)  # the first of them leads to the glossary
        assert words.count("in the signed receipt") == 3
        approval = run.study.approvals.get(site=anna.site, manifest_hash=run.manifest_hash)
        assert approval.signature is not None and approval.signature in text
        assert "DEVELOPMENT, not hardware" in text and "data-print" in text

    def test_the_sheet_of_an_earlier_run_and_of_a_reopened_study_is_still_that_runs(
        self, world: dict[str, Any], alice: User, anna: Hospital, barbara: Hospital
    ) -> None:
        run = live_on(world, rounds=2)
        address = reverse("site-receipts-of-run", args=[anna.site.pk, run.pk])
        Study.objects.filter(pk=run.study_id).update(state="draft", manifest=None, manifest_hash="")
        page = signed_in(alice).get(address, follow=True)
        assert page.status_code == 200 and page.context["run"] == run and len(page.context["lines"]) == 3
        of_other = reverse("site-receipts-of-run", args=[barbara.site.pk, run.pk])
        assert signed_in(alice).get(of_other).status_code == 404
        Study.objects.filter(pk=run.study_id).update(
            state="running", manifest=run.manifest, manifest_hash=run.manifest_hash
        )
        later = Run.objects.create(
            id="r" * 26, study_id=run.study_id, manifest=run.manifest, manifest_hash="e" * 64
        )
        page = signed_in(alice).get(address, follow=True)
        assert page.context["run"] == run != later and f"<code>{run.pk}</code>" in page.content.decode()

    def test_features_that_every_round_reads_have_left_once(
        self, world: dict[str, Any], alice: User, anna: Hospital
    ) -> None:
        run = live_on(world, rounds=3)
        Contribution.objects.filter(site=anna.site, round__run=run).exclude(blob="").update(
            blob="f" * 64, bytes=1_000_000
        )
        page = signed_in(alice).get(reverse("site-receipts-of-run", args=[anna.site.pk, run.pk]), follow=True)
        assert page.context["total"]["out"] == 1_000_000

    def test_the_privacy_loss_is_the_hospitals_own_and_made_of_what_the_receipt_states(
        self, world: dict[str, Any], alice: User, anna: Hospital
    ) -> None:
        run = live_on(world, rounds=1)
        row = run.rounds.get(number=1)
        steps = [
            {"site": anna.site.pk, "rate": 1.0, "steps": 1},
            {"site": "another", "rate": 1.0, "steps": 40},
        ]
        spent = {"unit": "record", "mechanism": "poisson-sampled-gaussian", "noise": 2.0, "delta": 1e-05}
        spent |= {"rounds": 1, "sites": steps}
        row.receipt["receipt"]["privacy"] = spent
        row.save()
        text = signed_in(alice).get(reverse("site-receipts", args=[anna.site.pk])).content.decode()
        assert "2.166" in text

    def test_another_hospitals_bytes_are_not_on_the_page(
        self, world: dict[str, Any], alice: User, anna: Hospital, barbara: Hospital
    ) -> None:
        run = live_on(world, rounds=2)
        client = signed_in(alice)
        text = "".join(
            client.get(address, follow=True).content.decode()
            for address in (
                reverse("site-receipts", args=[anna.site.pk]),
                reverse("site-receipts-of-run", args=[anna.site.pk, run.pk]),
            )
        )
        for row in Contribution.objects.filter(site=barbara.site, round__run=run).exclude(blob=""):
            assert row.blob[:16] not in text
        assert client.get(reverse("site-receipts", args=[barbara.site.pk])).status_code == 404
        room = reverse("study", args=[run.study_id]) + f"?hospital={barbara.site.pk}"
        assert "What left" not in client.get(room).content.decode()

    def test_pages_follow_each_other_by_key(self, world: dict[str, Any], alice: User, anna: Hospital) -> None:
        live_on(world, rounds=60)
        client = signed_in(alice)
        address = reverse("site-receipts", args=[anna.site.pk])
        first = client.get(address)
        second = client.get(address + first.context["page"].older)
        shown = [line["row"].pk for page in (first, second) for line in page.context["rows"]]
        rows = Contribution.objects.filter(site=anna.site).order_by("-pk")
        assert shown == list(rows.values_list("pk", flat=True)) and len(shown) == 61
        assert second.context["page"].older == ""
        assert client.get(address + "?before=%D9%A1").status_code == 200


class TestApproval:
    def test_what_differs_from_the_last_signature_is_marked_in_words_and_by_field(
        self, ready: Study, lena: User, alice: User, anna: Hospital
    ) -> None:
        services.reopen(lena, ready)
        services.update_study(
            lena,
            ready,
            name=ready.name,
            purpose="A new purpose",
            plan=Plan(model=MODEL, rounds=17),
            datasets=list(ready.datasets.all()),
        )
        freeze_tried(lena, ready)
        page = signed_in(alice).get(reverse("study", args=[ready.pk]))
        assert "<mark>17</mark>" in page.content.decode()
        fields = {change.name: (change.before, change.now) for change in page.context["fields"]}
        assert fields["training.rounds"][1] == "17"
        assert fields["purpose"] == ('"Route messages"', '"A new purpose"')
        assert set(fields) - {"minimum_time"} == {"training.rounds", "purpose"}
        assert page.context["before"].same_study

    def test_a_hospital_that_signed_nothing_yet_is_told_so(self, frozen: Study, alice: User) -> None:
        text = signed_in(alice).get(reverse("study", args=[frozen.pk])).content.decode()
        assert "has not approved anything before" in text
        assert frozen.manifest_hash[:8] in text and "I have read it and approve" in text

    def test_a_suspended_measurement_is_shown_as_one(self, frozen: Study, alice: User, olga: User) -> None:
        address = reverse("study", args=[frozen.pk])
        assert "suspended" not in signed_in(alice).get(address).content.decode()
        references.suspend(olga, Reference.objects.all()[0], "a flaw was found")
        assert "suspended" in signed_in(alice).get(address).content.decode()

    def test_only_the_hospital_that_is_asked_finds_the_button(self, frozen: Study, lena: User) -> None:
        text = signed_in(lena).get(reverse("study", args=[frozen.pk])).content.decode()
        assert "I have read it and approve" not in text and "you approved before" not in text


def test_rows_of_the_check_and_the_letter_are_german_for_a_german_reader(alice: User, anna: Hospital) -> None:
    row = {"name": "disk", "outcome": "fail", "found": "1 GiB free", "hint": "a hint of another version"}
    anna.site.checks = [{**row, "letter": "Please allow outgoing connections to a.example, port 443."}]
    anna.site.checks_at = timezone.now()
    anna.site.save()
    client = Client(headers={"accept-language": "de"})
    client.force_login(alice)
    with translation.override(None):  # what the page speaks ends with it
        page = client.get(reverse("site-connection", args=[anna.site.pk])).content.decode()
    assert "Platte" in page and "<span>1 GiB frei</span>" in page
    assert '<span lang="en">a hint of another version</span>' in page
    assert "Bitte erlauben Sie ausgehende Verbindungen zu a.example, Port 443." in page
