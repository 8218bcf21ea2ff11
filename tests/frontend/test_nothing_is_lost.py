"""Stale tabs, lines that are down, fixed fields: the page says what happened, nothing typed is lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect, sync_playwright

from enclave_jobs.runs import services as runs
from enclave_jobs.runs.models import Contribution, Round, Run
from federation.people.models import User
from federation.sites import maintenance
from federation.studies.models import Approval, Study
from frontend.changes import earlier_approval
from frontend.timeline import waits_for
from tests.federation.cast import Hospital
from tests.frontend.fullness import live_on
from tests.frontend.gallery import Desk, Shown, opened
from tests.frontend.page_reader import signed_in, text
from tests.support.chromium import launch


def test_what_is_typed_in_a_second_tab_after_freezing_is_shown(frozen: Study, lena: User) -> None:
    address = reverse("study-step", args=[frozen.pk, "purpose"])
    typed = {"name": "Triage", "purpose": "A long purpose,\nwritten at night"}
    page = signed_in(lena).post(address, typed, headers={"sec-fetch-site": "same-origin"})
    assert page.status_code == 409
    assert "A long purpose,<br>written at night" in page.content.decode()
    assert "was not saved" in page.content.decode()


def test_a_manifest_is_compared_with_what_was_signed_before_it(ready: Study, anna: Hospital) -> None:
    mine = Approval.objects.get(study=ready, site=anna.site)
    later = Study.objects.create(name="Later", lead=ready.lead, state="approving", manifest_hash="b" * 64)
    Approval.objects.create(
        study=later, site=anna.site, manifest_hash=ready.manifest_hash[::-1], signature="0" * 128,
        signed_at=timezone.now(),
    )  # fmt: skip
    assert mine.signed_at is not None and earlier_approval(ready, anna.site) is None


def test_a_hospital_that_has_signed_waits_for_nothing_in_the_browser(
    ready: Study, lena: User, anna: Hospital
) -> None:
    Approval.objects.filter(study=ready).update(browser_at=None)
    assert "not needed: signed at the hospital" in text(
        signed_in(lena), reverse("study-approvals", args=[ready.pk])
    )


def test_the_end_of_a_maintenance_window_is_told_in_the_readers_zone(
    ready: Study, lena: User, alice: User, anna: Hospital
) -> None:
    run = runs.launch(lena, ready)
    Run.objects.filter(pk=run.pk).update(state="running")
    run.refresh_from_db()
    anna.site.name = "<St. Anna>"
    anna.site.save()
    round = Round.objects.create(run=run, number=1, state="collecting")
    row = Contribution.objects.create(round=round, site=anna.site)
    now = timezone.now()
    maintenance.plan(alice, anna.site, now, now + timedelta(hours=2), weekly=False, reason="")
    said = waits_for(run, round, [row])
    assert "&lt;St. Anna&gt; is in a maintenance window until <time datetime=" in said


def test_a_fresh_installations_operator_is_told_what_to_begin_with(olga: User) -> None:
    page = text(signed_in(olga), "/")
    for words in (
        "Register a base model",
        "Put forward the first reference",
        "Invite a lead",
        "Invite an aud",
    ):
        assert words in page, words
    assert "close this page" not in page


@pytest.mark.browser
@pytest.mark.slow
def test_in_a_browser(world: dict[str, Any], people: dict[str, User], anna: Hospital) -> None:
    """Parts of the run's page hold while it polls; a table and a chart can be saved; a line that is down is
    told; a fixed field is wrong no more."""
    live_on(world)
    desk = Desk()
    run = Shown("run", "lena", reverse("run", args=[world["run_id"]]))
    step = Shown("step", "lena", reverse("study-step", args=[world["draft_id"], "data"]))

    def look() -> None:
        with sync_playwright() as playwright:
            chromium = launch(playwright)
            page = chromium.new_page()
            with opened(page, desk, people, run):
                curves = page.get_by_role("heading", name="Curves")
                expect(curves).to_be_hidden()
                page.get_by_role("link", name="Rounds", exact=True).click()
                expect(curves).to_be_visible()
                with page.expect_response(lambda answer: answer.url.endswith("/live")):
                    pass
                expect(curves).to_be_visible()
                expect(page.locator("#lanes")).to_be_hidden()
                with page.expect_download() as chart:
                    page.get_by_role("button", name="Save as SVG").click()
                assert chart.value.path().read_text().startswith("<svg")
                page.get_by_role("link", name="Costs", exact=True).click()
                with page.expect_download() as table:
                    page.get_by_role("button", name="Save as CSV").first.click()
                assert '"St. Anna","4"' in table.value.path().read_text()
                page.context.set_offline(True)
                expect(page.locator("#offline")).to_contain_text("does not answer")
                page.context.set_offline(False)
                expect(page.locator("#offline")).to_be_hidden(timeout=10_000)
            with opened(page, desk, people, step):
                page.evaluate(
                    "document.querySelector('fieldset').insertAdjacentHTML('beforeend',"
                    " '<ul class=errorlist><li>choose one</li></ul>')"
                )
                page.get_by_role("checkbox").first.check()
                expect(page.locator(".errorlist")).to_have_count(0)
            chromium.close()

    desk.serve(look)
