"""A person's own name and time zone: on the account, on every page, and in mails."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core import mail
from django.urls import reverse
from playwright.sync_api import sync_playwright

from contracts.refusal import Refusal
from federation.notices import services as notices
from federation.people import services
from federation.people.models import User
from federation.studies.models import Event, Study
from tests.frontend.gallery import Desk, Shown, opened
from tests.frontend.page_reader import signed_in, text
from tests.support.chromium import launch


def test_a_name_is_plain_and_stands_where_the_person_is_named(lena: User) -> None:
    client, address = signed_in(lena), reverse("account-profile")
    client.post(address, {"first_name": "Lena\u202e\x1b[31m", "last_name": " van  Dam", "time_zone": ""})
    lena.refresh_from_db()
    assert str(lena) == "Lena van Dam" and "Lena van Dam" in text(client, reverse("account"))
    assert 'value="van Dam"' in text(client, address)
    assert '<option value="" selected>' in text(client, address)
    services.change_profile(lena, "", "", "Europe/Berlin")
    form = text(client, address)
    assert '<option value="Europe/Berlin" selected>Europe/Berlin</option>' in form
    assert form.count(" selected>") == 1 and 'name="time_zone"' in form


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "Europe/Berlin\n"])
def test_a_zone_that_is_none_is_refused(lena: User, zone: str) -> None:
    page = signed_in(lena).post(reverse("account-profile"), {"time_zone": zone, "last_name": "typed"})
    if zone.strip() != "Europe/Berlin":  # the form takes blanks off
        assert page.status_code == 422 and 'value="typed"' in page.content.decode()
    with pytest.raises(Refusal, match=r"people\.unknown_zone"):
        services.change_profile(lena, "", "", zone)


def test_mails_tell_the_moment_in_the_readers_zone(frozen: Study, alice: User, bob: User) -> None:
    services.change_profile(alice, "", "", "Asia/Tokyo")
    Event.objects.filter(kind="study.approving").update(at=datetime.now(UTC).replace(hour=0, minute=0))
    moment = Event.objects.get(kind="study.approving").at
    notices.send_due()
    reported = {one.to[0]: str(one.body) for one in mail.outbox}
    assert f"{moment:%Y-%m-%d} 09:00:{moment:%S} (Asia/Tokyo)" in reported[alice.email]
    assert f"{moment:%Y-%m-%d} 00:00:{moment:%S} (UTC)" in reported[bob.email]


@pytest.mark.browser
def test_pages_tell_moments_in_the_chosen_zone_whatever_the_browsers(
    world: dict[str, Any], people: dict[str, User]
) -> None:
    desk = Desk()
    services.change_profile(people["alice"], "", "", "Asia/Tokyo")
    address = reverse("site-maintenance", args=[world["site_id"]])

    def look() -> tuple[str, str]:
        with sync_playwright() as playwright:
            chromium = launch(playwright)
            page = chromium.new_context(timezone_id="America/New_York").new_page()
            with opened(page, desk, people, Shown("account", "alice", reverse("account"))):
                shown = page.locator("time[datetime]").first.evaluate(
                    "each => [each.dateTime, each.textContent]"
                )
            with opened(page, desk, people, Shown("maintenance", "alice", address)):
                zone = page.locator("input[name=zone]").input_value()
            chromium.close()
        return shown, zone

    (moment, reported), zone = desk.serve(look)
    assert zone == "Asia/Tokyo"
    hour = (datetime.fromisoformat(moment).hour + 9) % 24
    assert f" {hour % 12 or 12}:" in reported and ("PM" if hour >= 12 else "AM") in reported
