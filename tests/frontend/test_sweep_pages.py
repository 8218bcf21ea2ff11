"""A lead sweeps Method 2's ratios from a study's page."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from federation.studies.models import ModelJob, Study, StudyState, Sweep

ASKED = {"name": "Kept", "ratios": ["25.0"], "selects": ["largest"]}


@pytest.fixture
def split(draft: Study) -> Study:
    Study.objects.filter(pk=draft.pk).update(settings={**draft.settings, "method": "method-2"})
    return draft


def test_a_sweep_is_made_from_a_study_and_lists_its_points(lead: Client, split: Study) -> None:
    assert "Sweep its ratios" in lead.get(reverse("study", args=[split.pk])).content.decode()
    asked = {"name": "Ratios", "ratios": ["12.5", "100.0"], "selects": ["largest"], "seeds": "0, 1"}
    response = lead.post(reverse("sweep-new", args=[split.pk]), asked)
    sweep = Sweep.objects.get()
    assert response.headers["Location"] == reverse("sweep", args=[sweep.pk]) and sweep.points.count() == 4
    page = lead.get(reverse("sweep", args=[sweep.pk]))
    assert "0 of 4 points are finished" in page.content.decode() and len(page.context["rows"]) == 2
    assert lead.get(reverse("sweep-csv", args=[sweep.pk])).content.decode().count("\n") == 3


def test_the_page_tells_its_script_whether_it_is_out_of_date(lead: Client, split: Study) -> None:
    lead.post(reverse("sweep-new", args=[split.pk]), ASKED)
    sweep = Sweep.objects.get()
    address = reverse("sweep", args=[sweep.pk])
    page = lead.get(address)
    assert "hx-get" not in page.content.decode() and page.context["drafts"] == 1  # nothing moves
    (study,) = Study.objects.filter(sweep_point__sweep=sweep)
    asked = {"by": study.lead, "study": study, "kind": "freeze", "state": "running"}
    job = ModelJob.objects.create(**asked, moved_at=timezone.now())
    page = lead.get(address)
    shown_text = page.content.decode()
    assert (
        "1 study is still tried." in shown_text
        and "hx-get" in shown_text
        and "Freeze 1 draft" not in shown_text
    )
    script = {"hx-request": "true"}
    shown = f"{address}?{urlencode({'standing': page.context['standing']})}"
    answer = lead.get(shown, headers=script)
    assert (answer.status_code, answer.headers.get("HX-Refresh")) == (204, None)
    ModelJob.objects.filter(pk=job.pk).update(state="refused")
    assert lead.get(shown, headers=script).headers["HX-Refresh"] == "true"


def test_what_is_wrong_with_a_sweep_is_said_and_what_was_typed_stays(lead: Client, split: Study) -> None:
    address = reverse("sweep-new", args=[split.pk])
    page = lead.post(address, {**ASKED, "seeds": "one"})
    assert page.status_code == 422 and 'value="Kept"' in page.content.decode()
    assert "Give whole numbers" in page.content.decode()
    many = {**ASKED, "seeds": " ".join(map(str, range(99)))}
    assert "sweep.too_large" in lead.post(address, many).content.decode()


def test_points_that_cannot_be_frozen_are_named_by_their_reason(lead: Client, split: Study) -> None:
    """No reference value of the split server is in force here."""
    asked = {"name": "Ratios", "ratios": ["25.0"], "selects": ["largest"], "seeds": "0, 1"}
    lead.post(reverse("sweep-new", args=[split.pk]), asked)
    sweep = Sweep.objects.get()
    page = lead.post(reverse("sweep-freeze", args=[sweep.pk]), follow=True).content.decode()
    assert "2 × " in page and "study.no_reference" in page
    assert {point.study.state for point in sweep.points.all()} == {StudyState.DRAFT}
