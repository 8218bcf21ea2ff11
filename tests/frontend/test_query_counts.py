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
    "home": 18, "search": 2, "people": 4, "person-invite": 2, "person": 4, "account": 6, "password": 2,
    "second-factor": 6, "second-factor-codes": 2, "second-factor-off": 2, "sites": 4, "site-invite": 2,
    "site": 9, "site-status": 5, "site-connection": 3, "site-checks": 3, "site-receipts": 5,
    "site-receipts-of-run": 12, "site-evidence": 6, "site-maintenance": 4, "datasets": 4, "dataset": 4,
    "models": 4, "model": 3, "model-jobs": 3, "model-new": 2, "study-check": 4,
    "studies": 4, "study-new": 3, "study": 23, "study-costs": 9, "study-labels": 5, "study-advice": 4,
    "study-approvals": 7, "runs": 5, "run": 18, "run-live": 17, "run-history": 17,
    "run-curves": 5, "run-csv": 6, "compare": 6, "compare-data": 4, "compare-csv": 4, "log": 10,
    "log-check": 2, "log-entry": 18, "log-raw": 6, "references": 6, "reference-new": 2, "review": 9,
    "operations": 9, "operations-kept": 15, "audit": 3, "collateral": 5, "sweeps": 4, "sweep-new": 3,
    "sweep": 7, "sweep-csv": 5, "run-serving": 4,
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
