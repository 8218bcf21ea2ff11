"""What a hospital's admin finds on the pages of his hospital: connection, maintenance, receipts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from enclave.errors import Refusal
from federation.audit.models import AuditEntry
from federation.people.models import User
from federation.sites import maintenance
from federation.sites.models import MaintenanceWindow
from frontend.timeline import waits_for
from tests.federation.cast import Hospital

BEAT = {"agent_version": "0.1", "runtime": "development"}
FAILED = {
    "name": "DNS", "outcome": "fail", "found": "coordinator.example has no address here",
    "hint": "Ask your network team.", "letter": "Please let this machine resolve <coordinator.example>.",
}  # fmt: skip
WELL = {"name": "disk", "outcome": "pass", "found": "90 GiB free", "hint": "", "letter": ""}


def signed_in(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def admin(alice: User) -> Client:
    return signed_in(alice)


class TestConnection:
    def test_a_red_row_stands_first_and_says_what_to_do_and_offers_a_text_to_send(
        self, admin: Client, anna: Hospital
    ) -> None:
        anna.call("POST", "heartbeat", {**BEAT, "checks": [WELL, FAILED]})
        page = admin.get(reverse("site-connection", args=[anna.site.pk])).content.decode()
        assert page.index("<strong>DNS</strong>") < page.index("<strong>disk</strong>")
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
        from enclave_jobs import leases
        from enclave_jobs.models import JobKind
        from federation.studies.models import Contribution, Round, Run

        Run.objects.filter(pk=world["run_id"]).update(state="running")
        run = Run.objects.get(pk=world["run_id"])
        opened = Round.objects.create(run=run, number=1, state="collecting")
        late = Contribution.objects.create(round=opened, site=anna.site)
        leases.offer(run, anna.site, JobKind.TRAIN, "enclave", round=opened, inputs={})
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
