"""How many queries each page costs: pinned, and the same however much there is to show."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from enclave_jobs.runs.models import Contribution, Round, Run
from federation.audit.services import record
from federation.people.models import Role, User
from federation.studies import services
from federation.studies.models import Approval, Event, ModelJob, Study
from tests.federation.cast import make_dataset, make_hospital, make_person
from tests.frontend.fullness import live_on
from tests.frontend.test_page_permissions import TABLE, address_of
from tests.support.proofs import made_proof

RATHER = ("alice", "lena", "olga", "audrey")
ASKS_THE_BROKER = {"operations-workers"}
PINS = {
    "adapters": 4,
    "home": 22, "search": 3, "news": 4, "account-profile": 3, "dataset-describe": 5, "site-people": 7,
    "people": 5, "person-invite": 3, "person": 5, "account": 7, "password": 3,
    "second-factor": 7, "second-factor-codes": 3, "second-factor-off": 3, "sites": 5, "site-invite": 3,
    "site": 10, "site-status": 5, "site-connection": 4, "site-checks": 3, "site-receipts": 6,
    "site-evidence": 7, "site-maintenance": 5, "datasets": 5, "dataset": 5,
    "models": 5, "model": 8, "model-jobs": 3, "model-new": 3, "study-check": 4,
    "studies": 6, "study-new": 4, "study": 25, "study-costs": 11, "study-labels": 5, "study-advice": 5,
    "study-approvals": 7, "runs": 8, "run": 20, "run-live": 17, "run-history": 17,
    "run-curves": 5, "run-csv": 6, "compare": 8, "compare-data": 4, "compare-csv": 4, "log": 11,
    "log-check": 3, "log-entry": 19, "log-raw": 6, "references": 7, "reference-new": 3, "review": 10,
    "operations": 10, "operations-kept": 16, "audit": 4, "collateral": 6, "sweeps": 5, "sweep-new": 4,
    "sweep": 13, "sweep-csv": 5, "run-serving": 4,
}  # fmt: skip


def counts(world: dict[str, Any], people: dict[str, User]) -> dict[str, int]:
    """Queries of each page that is read, for the first who may open it. The first visit is not counted: it
    makes the log's key and the like."""
    clients = {}
    for who in RATHER:
        clients[who] = Client()
        clients[who].force_login(people[who])
    found = {}
    for name, (method, statuses) in TABLE.items():
        who = next((one for one in RATHER if statuses.get(one) == 200), None)
        if method != "GET" or who is None or name in ASKS_THE_BROKER:
            continue
        address = address_of(name, world)
        clients[who].get(address)
        with CaptureQueriesContext(connection) as captured:
            clients[who].get(address)
        found[name] = len(captured)
    return found


def grow(world: dict[str, Any], lena: User) -> None:
    """More of everything."""
    run = Run.objects.get(pk=world["run_id"])
    members = [approval.site for approval in run.study.approvals.select_related("site")]
    for number in range(100, 106):
        row = Round.objects.create(
            run=run, number=number, state="published", metrics={"pooled": {"loss": 1.0}}
        )
        for site in members:
            Contribution.objects.create(round=row, site=site, state="accepted", bytes=5, samples=5)
        Event.objects.create(study=run.study, run=run, round=row, kind="round.published")
    for number in range(6):
        hospital = make_hospital(f"Hospital {number}")
        dataset = make_dataset(hospital.site)
        make_person(f"admin{number}@hospital.example", Role.SITE_ADMIN, hospital.site)
        study = Study.objects.create(
            name=f"Study {number}", lead=lena, state="running", manifest=run.manifest, manifest_hash="a" * 64
        )
        study.datasets.add(dataset, *run.study.datasets.all())
        Approval.objects.create(study=study, site=hospital.site, manifest_hash="a" * 64)
        Run.objects.create(
            study=study, manifest=run.manifest, manifest_hash=f"{number:064x}", state="finished"
        )
        ModelJob.objects.create(kind="register", by=lena, source=f"model {number}")
        services.register_base_model(f"model {number}", made_proof())
        record(lena, "study.created", f"study:{study.pk}")


def test_a_page_costs_its_pinned_queries_and_no_more_when_there_is_more_to_show(
    world: dict[str, Any], people: dict[str, User]
) -> None:
    live_on(world)
    few = counts(world, people)
    grow(world, people["lena"])
    many = counts(world, people)
    assert set(few) == set(PINS), set(few) ^ set(PINS)
    above = {name: (few[name], PINS[name]) for name in few if few[name] > PINS[name]}
    assert not above, f"more queries than pinned (found, pinned): {above}"
    # One more, for a kind of thing that was not there before, is fair; six more for six more things are not.
    growing = {name: (few[name], many[name]) for name in few if many[name] > few[name] + 1}
    assert not growing, f"queries grow with what there is (before, after): {growing}"
