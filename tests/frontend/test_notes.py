"""A note and tags beside a run: by its lead, for whoever sees the run, plain, and found again."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from contracts.refusal import Refusal
from enclave_jobs.runs import notes
from enclave_jobs.runs.models import Run, Tag
from federation.audit.models import AuditEntry
from federation.people.models import User
from tests.frontend.page_reader import signed_in, text


@pytest.fixture
def run(world: dict[str, Any]) -> Run:
    return Run.objects.get(pk=world["run_id"])


def test_tags_are_small_words_each_once() -> None:
    assert notes.tags_of(" Best, #rank-8;best\n ‮x‬ #, ,") == ["best", "rank-8", "x"]


def test_the_lead_writes_and_whoever_sees_the_run_reads(
    run: Run, people: dict[str, User], lena: User
) -> None:
    client, address = signed_in(lena), reverse("run-notes", args=[run.pk])
    note = "Learning rate\x1b[31m too high.\u202e <b>Again</b> with half."
    assert client.post(address, {"note": note, "tags": "Slow, rank-8"}).status_code == 302
    page = text(signed_in(people["alice"]), reverse("run", args=[run.pk]))
    assert "Learning rate too high. &lt;b&gt;Again&lt;/b&gt; with half." in page and ">rank-8<" in page
    assert "<textarea" not in page and "<textarea" in text(client, reverse("run", args=[run.pk]))
    assert AuditEntry.objects.get(action="run.noted").facts == {"tags": 2, "note": 47}
    client.post(address, {"note": "", "tags": ""})
    assert not Tag.objects.exists() and Run.objects.get(pk=run.pk).note == ""
    assert 'id="notes"' not in text(signed_in(people["alice"]), reverse("run", args=[run.pk]))


@pytest.mark.parametrize(
    ("who", "form", "code"),
    [
        ("alice", {"tags": "x"}, "auth.forbidden"),
        ("olga", {"tags": "x"}, "auth.forbidden"),
        ("lena", {"note": "typed at night " * 200}, "run.note_too_long"),
        ("lena", {"tags": "x" * 31, "note": "typed at night"}, "run.bad_tags"),
        ("lena", {"tags": " ".join(map(str, range(11))), "note": "typed at night"}, "run.bad_tags"),
    ],
)
def test_what_is_refused_changes_nothing_and_loses_nothing(
    who: str, form: dict[str, str], code: str, run: Run, people: dict[str, User]
) -> None:
    page = signed_in(people[who]).post(reverse("run-notes", args=[run.pk]), form)
    assert page.status_code == 422
    said = page.content.decode()
    assert not Tag.objects.exists() and not Run.objects.get(pk=run.pk).note
    if who == "lena":
        assert f"[{code}]" in said or code in said
        assert "typed at night" in said


def test_the_service_itself_lets_nobody_else_write(run: Run, people: dict[str, User]) -> None:
    for who in ("alice", "olga", "ludo", "audrey"):
        with pytest.raises(Refusal, match=r"auth\.forbidden"):
            notes.annotate(people[who], run, "x", "")


def test_runs_are_found_by_tag_and_note(run: Run, lena: User, alice: User, ludo: User) -> None:
    notes.annotate(lena, run, "with the second half of the year", "keeper")
    name = run.study.name
    for asked in ("tag=keeper", "tag=%23Keeper", "q=second+half", "q=keeper"):
        assert f">{name}<" in text(signed_in(alice), f"{reverse('runs')}?{asked}"), asked
        assert f">{name}<" not in text(signed_in(ludo), f"{reverse('runs')}?{asked}"), asked
    assert "Nothing fits" in text(signed_in(lena), f"{reverse('runs')}?tag=keep")
    assert reverse("run", args=[run.pk]) in text(signed_in(lena), "/search?q=keeper")
