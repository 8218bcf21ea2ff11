"""Every page in Chromium: axe finds nothing moderate or worse in either theme, nothing is wider than a phone.

`make screenshots` runs this with FEDSLICE_SCREENSHOTS set to a folder: then each page is also drawn, light
and dark, on a phone, a notebook and a large screen, in a world that has lived and in an empty one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from playwright.sync_api import Page, sync_playwright

from enclave_jobs.runs.models import Run
from federation.people.models import User
from federation.sites.models import Site
from tests.federation.cast import Hospital
from tests.frontend.fullness import ask_for_a_sweep, live_on, releases_of
from tests.frontend.gallery import Desk, Shown, file_name, opened, pages
from tests.support.chromium import launch

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

THEMES = ("light", "dark")
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
HUGE = {"width": 2560, "height": 1440}
DRAWN = os.environ.get("FEDSLICE_SCREENSHOTS")
WEIGHTY = ("moderate", "serious", "critical")
AXE = Axe().axe_script
# What passed is not carried over.
VIOLATIONS = "options => axe.run({resultTypes: ['violations'], ...options}).then(found => found.violations)"
OFTEN = (
    "sign-in", "home", "site", "dataset", "study", "wizard-draft-tuning",
    "wizard-split-tuning", "run-lead", "run-result", "compare-lead", "log", "review", "help", "help-role",
    "room-sheet", "site-people", "sweep-asked",
)  # fmt: skip
"""Of each kind one: forms, tables, figures, dialogs. `make test-long` and `make screenshots` see all."""
EMPTY = (
    "home", "sites", "datasets", "models", "studies", "runs", "log", "references", "collateral", "people",
    "audit", "operations", "account",
)  # fmt: skip


def looked_at(page: Page, shown: Shown, folder: str) -> list[str]:
    """What axe says of it in both themes, and whether it is too wide for a phone; draws it if asked."""
    faults = []
    page.evaluate(AXE)
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        # The second theme differs in its colours only.
        options = {} if theme == "light" else {"runOnly": ["color-contrast"]}
        for violation in page.evaluate(VIOLATIONS, options):
            if violation["impact"] in WEIGHTY:
                where = [node["html"][:160] for node in violation["nodes"][:3]]
                faults.append(f"{shown.name} ({shown.who}, {theme}): {violation['id']}: {where}")
    sizes = {"wide": WIDE, "narrow": NARROW} | ({"huge": HUGE} if DRAWN else {})
    for width, size in sizes.items():
        page.set_viewport_size(size)  # type: ignore[arg-type]
        inside = page.evaluate("document.documentElement.scrollWidth")
        if inside > size["width"]:
            faults.append(f"{shown.name} ({shown.who}): {inside} px wide in a window of {size['width']} px")
        for theme in THEMES if DRAWN else ():
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            path = Path(str(DRAWN)) / folder / f"{file_name(shown)}-{width}-{theme}.png"
            page.screenshot(path=path, full_page=True)
    return faults


def faults_of(
    people: dict[str, User], wanted: list[Shown], folder: str, language: str = "en-US"
) -> list[str]:
    """What is wrong with these pages, in a real Chromium that asks for this language."""
    desk = Desk()

    def look() -> list[str]:
        faults: list[str] = []
        with sync_playwright() as playwright:
            chromium = launch(playwright)
            page = chromium.new_page(viewport=WIDE, locale=language)  # type: ignore[arg-type]
            for shown in wanted:
                page.set_viewport_size(WIDE)  # type: ignore[arg-type]
                page.emulate_media(color_scheme="light")
                with opened(page, desk, people, shown):
                    faults += looked_at(page, shown, folder)
            chromium.close()
        return faults

    return desk.serve(look)


@pytest.mark.parametrize(
    "wanted", [pytest.param(OFTEN, id="often"), pytest.param((), id="every page", marks=pytest.mark.long)]
)
def test_axe_finds_nothing_of_weight_on_the_pages_of_a_full_installation(
    world: dict[str, Any], people: dict[str, User], anna: Hospital, wanted: tuple[str, ...]
) -> None:
    run = live_on(world)
    ask_for_a_sweep(world)
    released = [
        Shown(f"run-release-{state}", "lena", reverse("study", args=[Run.objects.get(pk=pk).study_id]))
        for state, pk in releases_of(run).items()
    ]
    Site.objects.filter(pk=anna.site.pk).update(agent_version="0.0.9")
    found = [shown for shown in [*pages(world), *released] if not wanted or shown.name in wanted]
    assert not wanted or len(found) == len(wanted)
    faults = faults_of(people, found, "full")
    assert not faults, "\n".join(faults)


GERMAN = (
    "sign-in", "home", "site", "site-enrolment", "study", "run-lead", "wizard-draft-tuning",
    "wizard-draft-training", "compare-lead", "account", "log-entry", "operations", "sweep",
    "help", "room-sheet", "sweep-asked",
)  # fmt: skip
"""German words are longer: forms, tables, badges, tabs, the navigation."""


@pytest.mark.parametrize(
    "wanted", [pytest.param(GERMAN, id="often"), pytest.param((), id="every page", marks=pytest.mark.long)]
)
def test_german_pages_fit_and_read_as_well(
    world: dict[str, Any], people: dict[str, User], wanted: tuple[str, ...]
) -> None:
    live_on(world)
    ask_for_a_sweep(world)
    found = [shown for shown in pages(world) if not wanted or shown.name in wanted]
    faults = faults_of(people, found, "german", "de-DE")
    assert not faults, "\n".join(faults)


def test_axe_finds_nothing_of_weight_where_there_is_nothing_yet(olga: User) -> None:
    wanted = [Shown(name, "olga", "/" if name == "home" else f"/{name}") for name in EMPTY]
    faults = faults_of({"olga": olga}, wanted, "empty")
    assert not faults, "\n".join(faults)
