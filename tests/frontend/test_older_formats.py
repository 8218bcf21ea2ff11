"""What an older version of FedSlice froze stays readable on every page, and runs nowhere."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from contracts.refusal import Refusal
from enclave_jobs.runs.models import Round, Run
from enclave_jobs.runs.services import launch
from federation.frozen import manifest_of
from federation.people.models import User
from federation.studies import services
from federation.studies.models import Approval, Study, Sweep, SweepPoint
from tests.federation.cast import Hospital
from tests.frontend.fullness import live_on
from tests.support.proofs import freeze as freeze_tried


def without_schedules(manifest: dict[str, Any]) -> None:
    """Before learning-rate schedules."""
    for name in ("schedule", "warmup", "patience", "proximal"):
        del manifest["training"][name]


def of_the_first_version(manifest: dict[str, Any]) -> None:
    """Before adapters by kind, masking, split, privacy and public datasets."""
    without_schedules(manifest)
    del manifest["masking"], manifest["split"]
    for name in ("clip", "max_samples", "privacy", "optimizer"):
        del manifest["aggregation"][name]
    for site in manifest["sites"]:
        del site["dataset"]["public"]


def with_what_is_no_more(manifest: dict[str, Any]) -> None:
    """A field that manifests do not have any more."""
    manifest["aggregation"]["secure_sum"] = True


SHAPES = (without_schedules, of_the_first_version, with_what_is_no_more)
Shape = Callable[[dict[str, Any]], None]


def age(study: Study, shape: Shape) -> str:
    """The study, and its run if it has one, as if it had been frozen by that version; its manifest's hash."""
    manifest = json.loads(study.manifest or "")
    shape(manifest)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    found, before = hashlib.sha256(text.encode()).hexdigest(), study.manifest_hash
    for rows in (Study.objects.filter(pk=study.pk), Run.objects.filter(study=study)):
        rows.update(manifest=text, manifest_hash=found)
    Approval.objects.filter(study=study, manifest_hash=before).update(manifest_hash=found)
    return found


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


PAGES = ("run", "run-live", "run-history", "run-curves", "run-csv", "run-serving", "study",
         "study-approvals", "site-receipts-of-run")  # fmt: skip
LISTS = ("home", "runs", "studies", "sweeps", "compare", "compare-csv", "compare-data", "references")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_page_about_it_opens(shape: Shape, world: dict[str, Any], people: dict[str, User]) -> None:
    live_on(world)
    study = Study.objects.get(pk=world["study_id"])
    age(study, shape)
    for who, state in (("lena", "joining"), ("lena", "running"), ("alice", "finished"), ("olga", "failed"),
                       ("audrey", "starting")):  # fmt: skip
        Run.objects.filter(study=study).update(state=state)
        client = client_of(people[who])
        for name in PAGES:
            wanted = {"site_id", "run_id"} if name.startswith("site") else {f"{name.split('-')[0]}_id"}
            page = client.get(reverse(name, kwargs={key: world[key] for key in wanted}), follow=True)
            assert page.status_code in (200, 286), (who, name)
        for name in LISTS:
            assert client.get(reverse(name), {"run": world["run_id"]}).status_code == 200, (who, name)
    review = client_of(people["olga"]).get(reverse("review", args=[world["review_id"]]))
    assert review.status_code == 200


@pytest.mark.parametrize("name", ["run", "study"])
def test_its_pages_say_that_it_is_older_and_offer_its_lead_a_clone(
    name: str, world: dict[str, Any], people: dict[str, User]
) -> None:
    age(Study.objects.get(pk=world["study_id"]), of_the_first_version)
    address = reverse(name, args=[world["run_id" if name == "run" else "study_id"]])
    clone = f'action="{reverse("study-clone", args=[world["study_id"]])}"'
    for who, offered in (("lena", True), ("alice", False), ("audrey", False)):
        page = client_of(people[who]).get(address).content.decode()
        assert "manifest.older_format" in page and "older format" in page
        assert (clone in page) is offered


def test_no_clone_is_offered_where_it_could_not_work(world: dict[str, Any], lena: User) -> None:
    study = Study.objects.get(pk=world["study_id"])
    age(study, of_the_first_version)
    Study.objects.filter(pk=study.pk).update(settings={**study.settings, "secure_sum": True})
    page = client_of(lena).get(reverse("study", args=[study.pk])).content.decode()
    assert "older format" in page and reverse("study-clone", args=[study.pk]) not in page


def test_a_clone_is_frozen_in_todays_format(world: dict[str, Any], lena: User) -> None:
    study = Study.objects.get(pk=world["study_id"])
    age(study, of_the_first_version)
    client_of(lena).post(reverse("study-clone", args=[study.pk]))
    clone = Study.objects.exclude(pk__in=[world["study_id"], world["draft_id"]]).get()
    freeze_tried(lena, clone)
    assert manifest_of(clone).training.schedule == "constant"


def test_a_draft_with_an_older_versions_settings_is_shown_and_not_opened_in_the_wizard(
    world: dict[str, Any], lena: User
) -> None:
    draft = Study.objects.get(pk=world["draft_id"])
    Study.objects.filter(pk=draft.pk).update(settings={**draft.settings, "secure_sum": True})
    client = client_of(lena)
    page = client.get(reverse("study", args=[draft.pk])).content.decode()
    assert "study.older_plan" in page and "secure_sum" in page
    for stage in ("purpose", "method", "tuning", "review"):
        answer = client.get(reverse("study-step", args=[draft.pk, stage]))
        assert answer.headers["Location"] == reverse("study", args=[draft.pk])


def test_comparing_and_the_csv_keep_an_older_run_and_mark_it(world: dict[str, Any], lena: User) -> None:
    live_on(world)
    age(Study.objects.get(pk=world["study_id"]), of_the_first_version)
    client = client_of(lena)
    assert "older format" in client.get(reverse("compare"), {"run": world["run_id"]}).content.decode()
    table = client.get(reverse("compare-csv"), {"run": world["run_id"]}).content.decode()
    (line,) = csv.DictReader(io.StringIO(table))
    assert (line["older_format"], line["rounds"], line["adapter"]) == ("yes", "4", "lora")
    assert "schedule" not in line and float(line["validation_accuracy"]) > 0


def test_a_sweep_with_an_older_point_has_its_figures(world: dict[str, Any], lena: User) -> None:
    study, run = Study.objects.get(pk=world["study_id"]), Run.objects.get(pk=world["run_id"])
    age(study, without_schedules)
    training = {"seconds": 12.0, "rows": 32}
    Round.objects.create(run=run, number=9, state="published", metrics={"training": training})
    Run.objects.filter(pk=run.pk).update(state="finished", summary={"accuracy": 0.75})
    Study.objects.filter(pk=study.pk).update(settings={"of": "another time"})
    sweep = Sweep.objects.get(pk=world["sweep_id"])
    SweepPoint.objects.create(sweep=sweep, study=study, ratio=50, cut=1, select="largest", seed=0)
    client = client_of(lena)
    assert "75.0" in client.get(reverse("sweep", args=[sweep.pk])).content.decode()
    table = client.get(reverse("sweep-csv", args=[sweep.pk])).content.decode()
    assert [line["validation_accuracy"] for line in csv.DictReader(io.StringIO(table))] == ["", "0.750000"]


def test_nothing_runs_by_it(frozen: Study, lena: User, anna: Hospital) -> None:
    assert len(anna.call("GET", "approvals").json()) == 1
    found = age(frozen, without_schedules)
    assert anna.call("GET", "approvals").json() == []
    answer = anna.call("POST", "approvals", anna.signed(found, ()))
    assert (answer.status_code, answer.json()["code"]) == (409, "manifest.older_format")
    Study.objects.filter(pk=frozen.pk).update(state="ready")
    with pytest.raises(Refusal) as refused:
        launch(lena, frozen)
    assert refused.value.code == "manifest.older_format"
    assert "Launch</button>" not in client_of(lena).get(reverse("study", args=[frozen.pk])).content.decode()
    services.reopen(lena, frozen)  # and it can be frozen again
    assert freeze_tried(lena, frozen).hash != found


def test_agents_of_its_members_are_refused_by_a_code_and_others_learn_nothing(
    world: dict[str, Any], anna: Hospital, clara: Hospital
) -> None:
    live_on(world)
    age(Study.objects.get(pk=world["study_id"]), without_schedules)
    body = {"nonce": "0" * 64}
    answer = anna.call("POST", f"runs/{world['run_id']}/aggregator/evidence", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "manifest.older_format")
    assert anna.call("GET", f"runs/{world['run_id']}/manifest").status_code == 200
    assert clara.call("GET", f"runs/{world['run_id']}/manifest").json()["code"] == "run.unknown"


def test_a_manifest_that_is_not_what_was_frozen_is_no_older_one(world: dict[str, Any], lena: User) -> None:
    study = Study.objects.get(pk=world["study_id"])
    Run.objects.filter(study=study).update(manifest=(study.manifest or "").replace("fedavg", "stack-svd"))
    page = client_of(lena).get(reverse("run", args=[world["run_id"]])).content.decode()
    assert "manifest.hash_mismatch" in page and "older_format" not in page
