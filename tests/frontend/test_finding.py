"""Things are found by their names, from one box and in the lists, by those who may see them alone."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect, sync_playwright

from enclave_jobs.runs.models import Run
from federation.attestation.models import LogEntry
from federation.people.models import Invitation, User
from federation.sites.models import Site
from federation.studies.models import Study, Sweep, SweepPoint
from frontend.forms.finding import ListForm
from frontend.paging import SIZE
from tests.frontend.gallery import Desk, Shown, opened
from tests.frontend.page_reader import signed_in, text
from tests.support.chromium import launch


def found(person: User, wanted: str) -> set[str]:
    """The addresses that the search leads to."""
    page = signed_in(person).get(reverse("search"), {"q": wanted})
    assert page.status_code == 200
    return {hit.url for group in page.context["groups"] for hit in group.hits}


def test_each_finds_what_he_may_see_and_nothing_else(world: dict[str, Any], people: dict[str, User]) -> None:
    study, run = reverse("study", args=[world["study_id"]]), reverse("run", args=[world["run_id"]])
    draft = reverse("sweep", args=[world["sweep_id"]])  # the draft is a point of it
    for who in ("olga", "lena", "audrey"):
        assert {study, run} <= found(people[who], "triage"), who
        assert found(people[who], "ratios") == {draft}, who
    assert {study, run} <= found(people["alice"], "triage")
    assert not found(people["alice"], "ratios") and not found(people["alice"], "draft")
    for who in ("ludo", "carol"):
        assert not found(people[who], "triage") and not found(people[who], "ratios"), who
    anna = reverse("site", args=[world["site_id"]])
    assert anna in found(people["ludo"], "anna") and anna not in found(people["carol"], "anna")
    dataset = reverse("dataset", args=[world["dataset_id"]])
    name = world["run"].study.datasets.get(pk=world["dataset_id"]).name
    assert dataset in found(people["ludo"], name) and dataset not in found(people["carol"], name)
    assert reverse("person", args=[people["lena"].pk]) in found(people["olga"], "lena@")
    assert not found(people["ludo"], "lena@")
    assert reverse("model", args=[world["model_id"]]) in found(people["ludo"], "test-model")
    assert not found(people["alice"], "test-model")


def test_entries_of_the_log_are_found_by_number_kind_code_and_hash(
    world: dict[str, Any], people: dict[str, User]
) -> None:
    entry = LogEntry.objects.get(pk=world["index"])
    page = reverse("log-entry", args=[entry.pk])
    digits = "7" * 12 + entry.leaf_hash[12:]  # what a hash may begin with, too
    LogEntry.objects.filter(pk=entry.pk).update(leaf_hash=digits)
    entry.refresh_from_db()
    refused = LogEntry.objects.get(code="attest.measurement")
    by_code = reverse("log-entry", args=[refused.pk])
    assert page in found(people["audrey"], "appraisal") and not found(people["alice"], "appraisal")
    assert found(people["ludo"], "appraisal") == {"/log?kind=appraisal"}  # the list knows what they may see
    for wanted in (str(entry.pk), entry.leaf_hash, entry.leaf_hash[:20].upper(), "7" * 12):
        assert page in found(people["audrey"], wanted), wanted
        assert page in found(people["lena"], wanted), wanted
        assert page not in found(people["ludo"], wanted), wanted
        assert page not in found(people["alice"], wanted), wanted
    assert found(people["audrey"], "attest.measurement") == {by_code}
    # A hash leads to the study that has it, too.
    run = Run.objects.get(pk=world["run_id"])
    study = reverse("study", args=[run.study_id])
    assert study in found(people["alice"], run.manifest_hash) and not found(
        people["carol"], run.manifest_hash
    )


def test_a_search_costs_few_queries(
    world: dict[str, Any], people: dict[str, User], django_assert_max_num_queries: Any
) -> None:
    for who, most in (("alice", 11), ("lena", 11), ("olga", 12)):
        client = signed_in(people[who])
        with django_assert_max_num_queries(most):
            client.get(reverse("search"), {"q": "triage"})


@pytest.mark.parametrize("asked", ["", " ", "a", "\0", "x\0y", "%", "zzzz", "9" * 60, "é" * 300, "attest."])
def test_whatever_is_typed_is_answered_with_a_page(
    asked: str, world: dict[str, Any], people: dict[str, User]
) -> None:
    for who in ("audrey", "alice"):
        page = signed_in(people[who]).get(reverse("search"), {"q": asked})
        assert page.status_code == 200 and not page.context["groups"]
        said = page.content.decode()
        assert "Nothing found" in said or "What do you look for?" in said


def test_what_is_typed_stays_in_the_box_and_is_no_markup(olga: User) -> None:
    page = signed_in(olga).get(reverse("search"), {"q": '"><b>x'}).content.decode()
    assert 'value="&quot;&gt;&lt;b&gt;x"' in page and "<b>x" not in page


def names(client: Client, address: str) -> list[str]:
    """What the list's first column links to, in its order."""
    page = client.get(address).content.decode()
    first = re.findall(r"<tr>\s*<td[^>]*>\s*<a [^>]*>(.*?)</a>", page, re.S)
    return [re.sub(r"<[^>]*>", "", each).strip() for each in first]


class TestLists:
    def test_filters_stand_in_the_address_and_pages_keep_them(self, lena: User, db: None) -> None:
        many = [
            Study.objects.create(name=f"Cough {n:03d}", lead=lena, state="finished") for n in range(SIZE + 5)
        ]
        Study.objects.create(name="Fever", purpose="not a cough", lead=lena)
        client, address = signed_in(lena), reverse("studies")
        assert names(client, f"{address}?q=cough&state=draft") == ["Fever"]
        first = client.get(f"{address}?q=COUGH&state=finished")
        page = first.context["page"]
        assert [line.name for line in first.context["lines"]] == [one.name for one in many[:4:-1]]
        assert "q=COUGH" in page.older and "state=finished" in page.older
        assert names(client, address + page.older) == [one.name for one in many[4::-1]]
        assert "Nothing fits" in text(client, f"{address}?q=nothing")
        for odd in ("before=x", "before=~", "before=2026-01-01~x", "before=%00~%00", "q=%00", "state=odd"):
            assert client.get(f"{address}?{odd}").status_code == 200, odd

    def test_studies_of_one_moment_are_all_shown_once(self, lena: User, db: None) -> None:
        now = timezone.now()
        for n in range(SIZE + 7):
            Study.objects.create(name=f"Study {n}", lead=lena)
        Study.objects.update(created_at=now)
        client, address, seen = signed_in(lena), reverse("studies"), list[str]()
        page = client.get(address).context["page"]
        while True:
            seen += [row.pk for row in page.rows]
            if not page.older:
                break
            page = client.get(address + page.older).context["page"]
        assert len(seen) == len(set(seen)) == SIZE + 7

    def test_hospitals_are_paged_by_name_and_found_by_whom_they_were_invited(
        self, olga: User, ludo: User, db: None
    ) -> None:
        Site.objects.bulk_create(Site(name=f"Hospital {n:03d}", state="active") for n in range(SIZE + 3))
        nameless = Site.objects.create()
        Invitation.objects.create(
            email="dora@dora.example", role="site_admin", token_hash="0" * 64, site=nameless,
            expires=timezone.now(), invited_by=olga,
        )  # fmt: skip
        client, address = signed_in(olga), reverse("sites")
        page = client.get(address).context["page"]
        rest = client.get(address + page.older).context["page"]
        assert len(page.rows) == SIZE and not rest.older and rest.newest == "?"
        assert [site.name for site in rest.rows] == [f"Hospital {n:03d}" for n in range(SIZE - 1, SIZE + 3)]
        assert "dora@dora.example" in text(client, f"{address}?q=dora")
        assert "Nothing fits" in text(signed_in(ludo), f"{address}?q=dora")
        assert names(client, f"{address}?q=tal+007&state=active") == ["Hospital 007"]

    def test_a_sweep_is_one_row_on_whatever_page(self, world: dict[str, Any], lena: User) -> None:
        """Its points lie around fifty others; it stands where its newest stands, and nowhere else."""
        run = Run.objects.get(pk=world["run_id"])
        sweep = Sweep.objects.create(name="Wide", lead=lena)
        for n in range(SIZE + 4):
            study = Study.objects.create(
                name=f"S {n}", lead=lena, manifest=run.manifest, manifest_hash=f"{n:064x}"
            )
            Run.objects.create(
                study=study, manifest=run.manifest, manifest_hash=f"{n:064x}", state="finished"
            )
            if n % 10 == 0:
                SweepPoint.objects.create(sweep=sweep, study=study, ratio=n, cut=1, select="largest", seed=n)
        client = signed_in(lena)
        for page, total in (("runs", 6), ("studies", 6)):
            address, rows, said = reverse(page), list[str](), ""
            while address:
                shown = client.get(address)
                rows += names(client, address)
                said += shown.content.decode()
                older = shown.context["page"].older
                address = reverse(page) + older if older else ""
            assert rows.count("Wide") == 1, page
            assert "S 20" not in rows and "S 21" in rows and len(rows) == len(set(rows)), page
            assert f"a sweep of {total} runs" in said
        assert names(client, reverse("runs") + "?q=wide") == ["Wide"]
        assert names(client, reverse("runs") + "?q=S+21") == ["S 21"]

    def test_a_state_that_is_none_is_said_and_shows_nothing(self, lena: User) -> None:
        form = ListForm({"state": "odd"}, [("draft", "draft")])
        assert not form.is_valid()
        Study.objects.create(name="Fever", lead=lena)
        assert "Fever" not in text(signed_in(lena), reverse("studies") + "?state=odd")


def test_the_first_page_links_to_all_hospitals_where_there_are_many(olga: User) -> None:
    Site.objects.bulk_create(Site(name=f"Hospital {n:03d}") for n in range(25))
    page = unquote(text(signed_in(olga), "/"))
    assert "All hospitals" in page and "Hospital 024" not in page


@pytest.mark.browser
@pytest.mark.parametrize("scripted", [True, False], ids=["with its script", "without"])
def test_the_box_is_found_by_a_key_and_works_without_a_script(
    scripted: bool, world: dict[str, Any], people: dict[str, User]
) -> None:
    desk = Desk()

    def look() -> None:
        with sync_playwright() as playwright:
            chromium = launch(playwright)
            page = chromium.new_page(java_script_enabled=scripted)
            with opened(page, desk, people, Shown("studies", "lena", reverse("studies"))):
                box = page.get_by_role("searchbox", name="Search")
                if scripted:
                    page.keyboard.press("/")
                    expect(box).to_be_focused()
                    page.keyboard.type("triage/1")  # in the box it is a sign like any other
                    expect(box).to_have_value("triage/1")
                box.fill("triage")
                box.press("Enter")
                page.get_by_role("main").get_by_role("link", name="Triage", exact=True).first.wait_for()
                assert page.url.endswith("/search?q=triage")
            chromium.close()

    desk.serve(look)
