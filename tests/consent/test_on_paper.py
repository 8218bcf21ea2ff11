"""On paper, as PDF too, a study's room and its sheet state the facts that the page and the terminal state."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import sync_playwright

from federation.people.models import User
from federation.studies.models import Study
from manifest_summary.short import in_short
from manifest_summary.summary import summary
from tests.consent.test_one_text import KINDS, NAMES, NOTES, Reader, unsaid, words
from tests.federation.cast import Hospital
from tests.frontend.gallery import Desk, Shown, opened
from tests.support.chromium import launch
from tests.support.installation import REPOSITORY

MAY_BE_SHORT = [NAMES[0], next(name for name in NAMES if name.startswith("split"))]


def test_what_is_folded_away_on_the_screen_is_opened_on_paper() -> None:
    """The whole of it, in a browser, is a long test."""
    style = (REPOSITORY / "frontend/static/frontend/fedslice.css").read_text()
    printed = style[style.index("@media print") :]
    assert "details::details-content { content-visibility: visible; }" in printed


@pytest.mark.browser
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(MAY_BE_SHORT, id="one of each method"),
        pytest.param(NAMES[::2], id="all kinds"),
    ],
)
def test_what_is_printed_states_the_same_facts(
    frozen: Study, alice: User, anna: Hospital, client: Client, names: list[str]
) -> None:
    reader = Reader(frozen, alice, anna, client)
    desk, places = (
        Desk(),
        {
            "room": reverse("study", args=[frozen.pk]),
            "sheet": reverse("study", args=[frozen.pk]) + f"?hospital={anna.site.pk}",
        },
    )

    def look() -> dict[tuple[str, str], tuple[Any, Any]]:
        missing = {}
        with sync_playwright() as playwright:
            chromium = launch(playwright)
            page = chromium.new_page()
            for name in names:
                manifest = desk.do(lambda name=name: reader.show(name))
                short = in_short(manifest, anna.site.pk, NOTES).facts
                whole = [fact for section in summary(manifest, (40,)) for fact in section.facts]
                for place, address in places.items():
                    with opened(page, desk, {"alice": alice}, Shown(place, "alice", address)):
                        page.emulate_media(media="print")
                        assert page.pdf().startswith(b"%PDF-")
                        # What paper does not show has no inner text.
                        printed = words(page.locator("main").inner_text())
                        page.emulate_media(media="screen")
                    unprinted = unsaid(printed, short), unsaid(printed, whole)
                    if any(unprinted):
                        missing[name, place] = unprinted
            chromium.close()
        return missing

    assert len(KINDS) >= 14
    assert desk.serve(look) == {}
