"""A run as its lead watches, steers and compares it."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from enclave_jobs.runs.models import Contribution, Round, Run, RunState
from enclave_jobs.runs.services import launch
from federation.people.models import User
from federation.studies import services
from federation.studies.events import apply, note
from federation.studies.models import Event, Study
from federation.studies.plan import Plan, write
from frontend import comparison
from frontend.phases import phases
from tests.federation.cast import Hospital


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def run(ready: Study, lena: User) -> Run:
    run = launch(lena, ready)
    apply(run, "starting", "joining")
    apply(run, "joining", "running")
    return run


def publish(run: Run, number: int, accuracy: float, sites: list[Any] | None = None) -> Round:
    pooled = {"accuracy": accuracy, "loss": 1 - accuracy, "macro_f1": accuracy, "rows": 10}
    return Round.objects.create(run=run, number=number, state="published", metrics={"pooled": pooled})


def test_the_page_says_whom_it_waits_for_since_when_and_why(
    run: Run, lena: User, anna: Hospital, barbara: Hospital
) -> None:
    round = Round.objects.create(run=run, number=1, state="collecting")
    Contribution.objects.create(round=round, site=anna.site)
    late = Contribution.objects.create(round=round, site=barbara.site)
    apply(late, "offered", "leased")
    Event.objects.filter(kind="contribution.leased").update(at=timezone.now() - timedelta(minutes=12))
    anna.site.last_seen = timezone.now()
    anna.site.save()
    barbara.site.last_seen = timezone.now() - timedelta(minutes=11)
    barbara.site.save()
    page = client_of(lena).get(reverse("run", args=[run.pk]))
    because = {str(lane["site"]): lane["because"]["text"] for lane in page.context["lanes"]}
    assert because == {"St. Anna": "has not taken its work yet", "St. Barbara": "not heard of since"}
    assert "12 min" in page.content.decode()


def test_a_run_is_paused_and_resumed_by_its_buttons(run: Run, lena: User) -> None:
    client = client_of(lena)
    assert 'id="pause"' in client.get(reverse("run", args=[run.pk])).content.decode()
    client.post(reverse("run-steer", args=[run.pk, "pause"]))
    page = client.get(reverse("run", args=[run.pk])).content.decode()
    assert 'id="resume"' in page and 'id="pause"' not in page
    client.post(reverse("run-steer", args=[run.pk, "resume"]))
    assert Run.objects.get().state == RunState.RUNNING


def test_going_on_is_offered_only_with_a_quorum(run: Run, lena: User, anna: Hospital) -> None:
    round = Round.objects.create(run=run, number=1, state="collecting")
    Contribution.objects.create(round=round, site=anna.site, state="submitted")
    page = client_of(lena).get(reverse("run", args=[run.pk])).content.decode()
    assert 'id="proceed"' not in page
    response = client_of(lena).post(reverse("run-steer", args=[run.pk, "proceed"]), follow=True)
    assert "run.below_quorum" in response.content.decode()


def test_cancelling_wants_the_studys_name_typed(run: Run, lena: User) -> None:
    client, address = client_of(lena), reverse("run-steer", args=[run.pk, "cancel"])
    client.post(address, {"confirm": "Triag"})
    assert Run.objects.get().state == RunState.RUNNING
    client.post(address, {"confirm": "Triage"})
    assert Run.objects.get().state == RunState.CANCELLED


@pytest.mark.parametrize("verb", ["pause", "resume", "proceed"])
@pytest.mark.parametrize("who", ["olga", "alice", "audrey"])
def test_only_its_lead_steers_a_run(verb: str, who: str, run: Run, people: dict[str, User]) -> None:
    page = client_of(people[who]).post(reverse("run-steer", args=[run.pk, verb]), follow=True)
    assert "auth.forbidden" in page.content.decode()
    assert Run.objects.get().state == RunState.RUNNING


def test_phases_add_up_to_the_runs_time_also_over_a_pause(run: Run) -> None:
    Event.objects.all().delete()
    start = timezone.now() - timedelta(minutes=10)
    round = Round.objects.create(run=run, number=1)
    reported = [(run, "run.starting", 0), (run, "run.joining", 5), (run, "run.running", 15),
            (round, "round.collecting", 16), (run, "run.paused", 26), (run, "run.running", 56),
            (round, "round.aggregating", 66), (round, "round.published", 68),
            (run, "run.finished", 70)]  # fmt: skip
    for row, kind, second in reported:
        event = note(row, kind)
        Event.objects.filter(pk=event.pk).update(at=start + timedelta(seconds=second))
    found = phases(run)
    assert found["total"] == pytest.approx(70)
    spent = {str(part["label"]): part["seconds"] for part in found["parts"]}
    assert spent["hospitals work"] == pytest.approx(20) and spent["paused"] == pytest.approx(30)
    assert sum(part["width"] for part in found["parts"]) == pytest.approx(100)


def another(lena: User, run: Run, accuracy: float, **changes: Any) -> Run:
    """A finished run of a study like this one, with other settings."""
    import msgspec

    from contracts.canonical import canonical
    from contracts.manifest import parse
    from federation.ids import new_id

    manifest = parse(run.manifest.encode())
    training = msgspec.structs.replace(manifest.training, seed=changes.pop("seed", 0))
    adapter = msgspec.structs.replace(manifest.adapter, **changes)
    made = msgspec.structs.replace(manifest, run=new_id(), training=training, adapter=adapter)
    study = Study.objects.create(name=f"Like it {made.run}", lead=lena, settings=write(Plan(model="m")))
    copy = Run.objects.create(
        id=made.run, study=study, manifest=canonical(made).decode(), manifest_hash=made.hash,
        state="finished", summary={"seconds": 60.0},
    )  # fmt: skip
    publish(copy, 1, accuracy / 2)
    publish(copy, 2, accuracy)
    return copy


def test_runs_are_compared_by_what_differs(run: Run, lena: User) -> None:
    made = [another(lena, run, 0.7, rank=2), another(lena, run, 0.9, rank=8)]
    page = client_of(lena).get(reverse("compare"), {"run": [one.pk for one in made]})
    assert page.context["differing"] == ["rank"] and page.context["axes"] == ["rank"]
    data = client_of(lena).get(reverse("compare-data"), {"run": [one.pk for one in made]}).json()
    assert [line["values"] for line in data["accuracy"]] == [[0.35, 0.7], [0.45, 0.9]]
    assert data["sweep"]["axis"] == "Rank" and data["sweep"]["lines"][0]["x"] == [2, 8]


def test_seeds_make_a_mean_with_a_students_t_interval(run: Run, lena: User) -> None:
    scores = (0.70, 0.72, 0.77)
    made = [another(lena, run, score, seed=seed) for seed, score in enumerate(scores)]
    (group,) = comparison.groups(comparison.compared(made))
    assert (group.count, group.mean) == (3, pytest.approx(0.73))
    # 4.303 · s / √3 with s = 0.036056 (R: qt(.975, 2) * sd(c(.70,.72,.77)) / sqrt(3))
    assert group.half == pytest.approx(0.089566, abs=1e-5)
    assert comparison.half_width([0.5]) is None


def test_the_csv_has_a_line_a_run_with_settings_costs_and_scores(run: Run, lena: User) -> None:
    made = another(lena, run, 0.8, rank=2)
    Study.objects.filter(pk=made.study_id).update(name="=HYPERLINK(1)")
    answer = client_of(lena).get(reverse("compare-csv"), {"run": [made.pk, run.pk]})
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert {row["run"] for row in rows} == {made.pk, run.pk}
    line = next(row for row in rows if row["run"] == made.pk)
    assert (line["rank"], line["validation_accuracy"], line["seconds"], line["seed"]) == (
        "2",
        "0.8",
        "60.0",
        "0",
    )
    assert line["study"] == "'=HYPERLINK(1)"


def test_nobody_compares_what_he_may_not_see(run: Run, ludo: User) -> None:
    page = client_of(ludo).get(reverse("compare"), {"run": [run.pk]})
    assert page.context["rows"] == [] and run.study.name not in page.content.decode()


def test_the_run_page_asks_the_database_as_often_for_many_rounds_as_for_few(run: Run, lena: User) -> None:
    client, counts = client_of(lena), []
    for upto in (3, 60):
        for number in range(run.rounds.count() + 1, upto + 1):
            publish(run, number, 0.5)
        with CaptureQueriesContext(
            connection,
        ) as asked:
            client.get(reverse("run", args=[run.pk]))
        counts.append(len(asked))
    assert counts[0] == counts[1] <= 30


def test_legends_name_only_what_a_run_has_and_a_sweep_has_two_finished_points(run: Run, lena: User) -> None:
    made = [another(lena, run, 0.7, rank=2), another(lena, run, 0.9, rank=8)]
    Study.objects.filter(pk__in=[one.study_id for one in made]).update(name="Same")
    rows = comparison.compared(
        list(Run.objects.filter(pk__in=[one.pk for one in made]).order_by("created_at"))
    )
    rows[1].settings.pop("rank")
    assert comparison.label(rows[1], rows) == f"Same ({made[1].pk[:6]})"
    assert "None" not in str(comparison.sweep(rows, "alpha"))
    Run.objects.filter(pk=made[1].pk).update(state="cancelled")
    page = client_of(lena).get(reverse("compare"), {"run": [one.pk for one in made]})
    assert page.context["differing"] == ["rank"] and page.context["axes"] == []
    assert "data-sweep" not in page.content.decode()


def test_runs_are_columns_beside_a_pinned_one_and_the_rest_is_behind_a_choice(run: Run, lena: User) -> None:
    made = [another(lena, run, 0.5 + rank / 100, rank=rank) for rank in range(2, 9)]
    chosen = {"run": [one.pk for one in made]}
    table = client_of(lena).get(reverse("compare"), {**chosen, "base": made[3].pk}).context["table"]
    assert [column.run.pk for column in table.columns] == [made[n].pk for n in (3, 0, 1, 2, 4)]
    assert table.parts == [(1, "2–5"), (2, "6–7")]
    headings = [heading for heading, _lines in table.groups]
    assert headings == ["What differs", "How well", "What it cost"]
    (rank,) = table.groups[0][1]
    assert [(cell["text"], cell["differs"]) for cell in rank.cells][:2] == [("5", False), ("2", True)]
    accuracy = table.groups[1][1][0].cells[1]
    assert (accuracy["text"], accuracy["more"]) == ("52.0 %", "−3.0 points")
    page = client_of(lena).get(reverse("compare"), {**chosen, "part": "2", "all": "1"})
    assert [column.run.pk for column in page.context["table"].columns] == [made[n].pk for n in (0, 5, 6)]
    assert page.context["table"].groups[-1][0] == "The same in all"


def test_a_run_that_has_published_nothing_can_be_compared(run: Run, lena: User) -> None:
    runs = [run.pk, another(lena, run, 0.7, rank=2).pk]
    page = client_of(lena).get(reverse("compare"), {"run": runs})
    assert page.status_code == 200 and page.context["differing"] == ["rank"]
    assert client_of(lena).get(reverse("compare-csv"), {"run": runs}).status_code == 200


def test_comparing_more_runs_asks_no_more_of_the_database(run: Run, lena: User) -> None:
    client, counts = client_of(lena), []
    made = [another(lena, run, 0.5, rank=rank) for rank in (2, 3, 4, 5)]
    for chosen in (made[:2], made):
        with CaptureQueriesContext(connection) as asked:
            client.get(reverse("compare"), {"run": [one.pk for one in chosen]})
        counts.append(len(asked))
    assert counts[0] == counts[1] <= 20


def test_home_says_what_runs_how_far_it_is_and_whom_it_waits_for(
    run: Run, lena: User, anna: Hospital
) -> None:
    publish(run, 1, 0.5)
    round = Round.objects.create(run=run, number=2, state="collecting")
    Contribution.objects.create(round=round, site=anna.site)
    page = client_of(lena).get("/")
    assert "1 of 4 rounds" in page.content.decode() and "Waiting for St. Anna" in page.content.decode()
    assert page.context["running"][0]["run"].pk == run.pk and not page.context["runs"]


@pytest.mark.parametrize("name", ["home", "run", "compare", "study-step"])
def test_a_page_weighs_at_most_300_kb_without_the_chart_script(
    name: str, run: Run, lena: User, anna: Hospital
) -> None:
    import re

    from django.contrib.staticfiles import finders

    draft = services.create_study(lena, name="D", purpose="", plan=Plan(model="m"), datasets=[])
    arguments = {"run": [run.pk], "study-step": [draft.pk, "training"]}.get(name, [])
    page = client_of(lena).get(reverse(name, args=arguments)).content
    files = set(re.findall(r'(?:src|href)="/static/([^"?]+)"', page.decode()))
    assert any(file.endswith(".css") for file in files)
    weight = len(page)
    for file in files - {"plotly/plotly.min.js"}:
        weight += Path(str(finders.find(file))).stat().st_size
    assert weight <= 300_000, f"{name} weighs {weight}"
