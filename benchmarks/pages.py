"""How fast and how heavy every page is: `python -m benchmarks.pages [--engine sqlite|postgresql] [--small]`.

Server time of whole pages (session, permission, queries, template) as Django's test client sees it, for the
first person of the permission table who may open the page; and what a first visit loads, gzip aside, without
the chart script. 50 sites, 200 studies, 10,000 rounds, 100,000 log entries; with --large 1,000 sites and
5,000 studies with a run each; with --million a million events on their timelines beside that, every twentieth
of the study that is looked at. `--engine postgresql` starts Debian's server in a folder of its own;
FEDSLICE_DATABASE names another. Default: both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import log_pages

GOAL_MS, GOAL_BYTES = 100.0, 300_000
ASKED = 7
RATHER = ("alice", "lena", "olga", "audrey")
MEMBERS = 3
NOT_MEASURED = {"log-raw"}
"""It hands out a file."""


@dataclass(frozen=True)
class PageLoad:
    """How much there is. Each study has a run of so many rounds, of three sites."""

    sites: int
    studies: int
    rounds: int
    entries: int
    events: int = 0
    """Those that are made beside three of each round."""

    def __str__(self) -> str:
        runs = f"{self.studies:,} studies, {self.studies * self.rounds:,} rounds"
        events = f"{3 * self.studies * self.rounds + self.events:,} events"
        return f"{self.sites:,} sites, {runs}, {events}, {self.entries:,} log entries"


SMALL, USUAL, LARGE, MILLION = (
    PageLoad(6, 10, 10, 2000),
    PageLoad(50, 200, 50, 100_000),
    PageLoad(1000, 5000, 5, 20_000),
    PageLoad(1000, 5000, 5, 20_000, events=1_000_000),
)
SIZES = {"small": SMALL, "usual": USUAL, "large": LARGE, "million": MILLION}
LOOKED_AT = 20
"""One event in so many is of the study whose pages are measured: 50,000 of a million."""


def fill(size: PageLoad) -> dict[str, Any]:
    """The database, and the ids that addresses need."""
    from django.utils import timezone

    from contracts.canonical import canonical
    from contracts.manifest import (
        Aggregation,
        DatasetRef,
        Lora,
        Manifest,
        ModelSpec,
        Release,
        Training,
    )
    from contracts.manifest import Site as Member
    from contracts.policy import Policy, SgxReference
    from enclave_jobs.runs.models import Contribution, Round, Run
    from federation.attestation import references
    from federation.attestation.models import AppraisalRecord, LogEntry, Reference, Review, Root
    from federation.audit.models import AuditEntry
    from federation.datasets.models import Dataset
    from federation.notices.models import Notice
    from federation.people.models import Invitation, Role, User
    from federation.sites.models import Site
    from federation.studies.models import Approval, BaseModel, Event, Study, Sweep, SweepPoint
    from tests.support.proofs import made_proof

    log_pages.SITES, log_pages.STUDIES = size.sites, size.studies
    entries, rounds = size.entries, size.rounds
    log_pages.fill(entries)
    random_ = random.Random(2)
    now = timezone.now()
    sites = list(Site.objects.order_by("pk"))
    for number, site in enumerate(sites):
        site.state, site.public_key, site.runtime = "active", f"{number + 1:064x}", "development"
        site.approval_key = f"{number + 1:063x}a"
        site.agent_version, site.last_seen, site.checks_at = "0.1.0", now, now
        site.checks = [
            {"name": f"check {n}", "outcome": "pass", "found": "x" * 80, "hint": "", "letter": ""}
            for n in range(14)
        ]
    fields = [
        "state",
        "public_key",
        "approval_key",
        "runtime",
        "agent_version",
        "last_seen",
        "checks_at",
        "checks",
    ]
    Site.objects.bulk_update(sites, fields, batch_size=50)
    User.objects.create_user("olga@coordinator.example", role=Role.OPERATOR)
    for site in sites:
        User.objects.create_user(f"admin@{site.pk}.example", role=Role.SITE_ADMIN, site=site)
    invited = Invitation.objects.create(
        email="dora@hospital.example", role="lead", token_hash="0" * 64, expires=now + timedelta(days=7)
    )
    card = {
        "rows": 60, "labels": {"cause": 20, "symptom": 25, "treatment": 15},
        "splits": {"train": 40, "validation": 10, "test": 10}, "text_length": {"p50": 80}, "threshold": 5,
    }  # fmt: skip
    datasets = Dataset.objects.bulk_create(
        Dataset(site=site, name="notes", card=card, rows=60, digest=f"{number:064x}")
        for number, site in enumerate(sites)
    )
    for number, program in enumerate(("aggregator", "client_slice")):
        value = SgxReference(program=program, mrenclave=f"{number + 1:064x}")  # type: ignore[arg-type]
        references.add(None, value, root=Root.DEVELOPMENT, reason="for this benchmark")
    review = Review.objects.create(
        root="development", program="client_slice", measurement="e" * 64,
        values={"program": "client_slice", "mrenclave": "e" * 64}, reason="a new version",
        opened_by="evidence",
    )  # fmt: skip
    review.sites.add(sites[0])
    policy = Policy("development", "0" * 64, (SgxReference("aggregator", mrenclave="1" * 64),))
    studies = list(Study.objects.order_by("pk"))
    for number, study in enumerate(studies):
        chosen = sorted({number % len(sites), *random_.sample(range(len(sites)), MEMBERS)})[:MEMBERS]
        members = tuple(
            Member(
                sites[n].pk,
                sites[n].name,
                sites[n].public_key,
                sites[n].approval_key,
                DatasetRef("notes", f"{n:064x}", 60),
            )
            for n in chosen
        )
        manifest = Manifest(
            version=1, run=f"run{number:09d}", study=study.name, purpose="Which notes are urgent?",
            method="method-1", placement="all_in_tee", runtime="development",
            model=ModelSpec("embedded:x", "sequence-classification", {"x.json": "c" * 64}, ("a", "b"), 16),
            adapter=Lora(4, 8, ("query",)),
            training=Training(rounds=rounds, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7),
            sites=members, aggregation=Aggregation("fedavg", quorum=1, deadline_seconds=60), policy=policy,
            release=Release("nothing", 1), minimum_time=1_700_000_000,
        )  # fmt: skip
        text = canonical(manifest).decode()
        study.manifest, study.manifest_hash, study.state = text, manifest.hash, "running"
        study.datasets.set([datasets[n] for n in chosen])
        run = Run.objects.create(
            id=manifest.run, study=study, manifest=text, manifest_hash=manifest.hash, state="running"
        )
        Approval.objects.bulk_create(
            Approval(
                study=study, site_id=m.id, manifest_hash=manifest.hash, signature="0" * 128, signed_at=now
            )
            for m in members
        )
        _rounds(run, [m.id for m in members], rounds, now, Round, Contribution, Event)
    Study.objects.bulk_update(studies, ["manifest", "manifest_hash", "state"], batch_size=100)
    _events(studies[0].pk, size.events)
    AuditEntry.objects.bulk_create(
        (
            AuditEntry(actor=f"admin@{random_.choice(sites).pk}.example", action="dataset.published",
                       target=f"site:{random_.choice(sites).pk}", facts={"n": n})
            for n in range(entries // 5)
        ),
        batch_size=5000,
    )  # fmt: skip
    keys = LogEntry.objects.filter(kind="appraisal").order_by("-index").values_list("index", flat=True)
    AppraisalRecord.objects.bulk_create(
        AppraisalRecord(
            site=random_.choice(sites), run_id=f"run{n % len(studies):09d}", program="client_slice", at=now,
            verdict="accepted", tee="sgx", status="UpToDate", measurement="1" * 64, development=True,
            checks=[], claims={"signing_key": "0" * 64}, quote_sha256="0" * 64, collateral_sha256="0" * 64,
            log_entry_id=index,
        )
        for n, index in enumerate(keys[: entries // 20])
    )  # fmt: skip
    first = studies[0]
    lead = first.lead
    proof = msgspec.to_builtins(made_proof())
    model = BaseModel.objects.create(
        source="embedded:x", task=proof["task"], name="X", files=proof["files"], proof=proof
    )
    reported = Event.objects.order_by("-pk")[: entries // 20]
    Notice.objects.bulk_create(Notice(event=event, user=lead, by_mail=False) for event in reported)
    draft = Study.objects.create(name="A draft", lead=lead, settings={"model": "embedded:x"})
    sweep = Sweep.objects.create(name="Ratios", lead=lead)
    for number, study in enumerate(Study.objects.filter(lead=lead).order_by("pk")[:10]):
        SweepPoint.objects.create(sweep=sweep, study=study, ratio=number + 1, cut=1, select="largest", seed=0)
    return {
        "sweep_id": sweep.pk,
        "site_id": first.datasets.order_by("site_id")[0].site_id, "study_id": first.pk, "draft_id": draft.pk,
        "run_id": first.runs.get().pk, "dataset_id": datasets[0].pk, "index": entries // 2,
        "sha256": "0" * 64, "reference_id": Reference.objects.order_by("pk")[0].pk, "review_id": review.pk,
        "user_id": lead.pk, "invitation_id": invited.pk, "model_id": model.pk,
    }  # fmt: skip


def _rounds(run: Any, members: list[str], count: int, now: datetime, *models: Any) -> None:
    round_, contribution, event = models
    metrics = {"pooled": {"accuracy": 0.5, "macro_f1": 0.4, "loss": 1.0, "rows": 60}, "sites": {}}
    receipt = {
        "receipt": {
            "inputs": [{"site": m, "sha256": "0" * 64, "bytes": 1 << 20, "samples": 40} for m in members],
            "measurement": "1" * 64, "development": True, "metrics": metrics,
        },
        "signing_key": "0" * 64,
    }  # fmt: skip
    rows = round_.objects.bulk_create(
        round_(run=run, number=n, state="published", metrics=metrics, receipt=receipt, closed_at=now)
        for n in range(1, count + 1)
    )
    contribution.objects.bulk_create(
        contribution(round=row, site_id=m, state="accepted", blob=f"{row.pk:064x}", bytes=1 << 20, samples=40)
        for row in rows
        for m in members
    )
    event.objects.bulk_create(
        event(study=run.study, run=run, round=row, kind=kind)
        for row in rows
        for kind in ("round.open", "round.aggregating", "round.published")
    )


def _events(looked_at: str, count: int) -> None:
    """So many events more, of the kinds that a run has most, by the database itself: as rows of this process
    they would take minutes."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            """
            with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < %s),
            owners as (
                select r.id as run, r.study_id as study, row_number() over (order by r.id) - 1 as place
                from runs_run r
            ),
            firsts as (select run_id as run, min(id) as round from runs_round group by run_id)
            insert into studies_event (study_id, run_id, round_id, at, kind, from_state, to_state, facts)
            select o.study, o.run, f.round, current_timestamp,
                   case n %% 3 when 0 then 'contribution.submitted' when 1 then 'contribution.accepted'
                   else 'round.published' end, '', '', '{}'
            from numbers
            join owners o on o.place = case when n %% %s = 0
                then (select place from owners where study = %s)
                else n %% (select count(*) from owners) end
            join firsts f on f.run = o.run
            """,
            [count, LOOKED_AT, looked_at],
        )


def visits(world: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, who, address) of every page and fragment that is fetched."""
    from tests.frontend.test_page_permissions import TABLE, address_of

    found = []
    for name, (method, statuses) in TABLE.items():
        who = [one for one in RATHER if statuses.get(one) in (200, 302)]
        if method == "GET" and who and name not in NOT_MEASURED:
            found.append((name, who[0], address_of(name, world)))
    return [*found, *(("search for a word", who, "/search?q=Study") for who in ("alice", "lena", "olga"))]


def measure(engine: str, wanted: PageLoad) -> list[dict[str, Any]]:
    from django.test import Client

    from federation.people.models import User
    from federation.sites.models import Site

    world = fill(wanted)
    admin = User.objects.get(site=Site.objects.get(pk=world["site_id"]))
    people = {
        "alice": admin, "lena": User.objects.get(email="lena@university.example"),
        "olga": User.objects.get(email="olga@coordinator.example"),
        "audrey": User.objects.get(email="audrey@authority.example"),
    }  # fmt: skip
    clients = {}
    for who, person in people.items():
        clients[who] = Client(headers={"host": "127.0.0.1"})
        clients[who].force_login(person)
    size, figures = str(wanted), []
    for name, who, address in visits(world):
        client = clients[who]
        answer = client.get(address)
        if answer.status_code not in (200, 204, 302):
            raise RuntimeError(f"{address} answered {answer.status_code}")
        times, cpu = [], []
        for _ in range(ASKED):
            started, spent = time.perf_counter(), time.process_time()
            client.get(address)
            times.append(1000 * (time.perf_counter() - started))
            cpu.append(1000 * (time.process_time() - spent))
        config = {
            "engine": engine,
            "who": who,
            "slowest": round(max(times), 1),
            "cpu": round(statistics.median(cpu), 1),
            "size": size,
            "first_load": _first_load(client, answer),
        }
        figures.append({"figure": f"page {name}", "value": round(statistics.median(times), 1), "unit": "ms",
                        "goal": GOAL_MS, "better": "lower", "config": config})  # fmt: skip
    heaviest = max(figures, key=lambda figure: figure["config"]["first_load"])
    figures.append({"figure": "heaviest first load", "value": heaviest["config"]["first_load"], "unit": "B",
                    "goal": GOAL_BYTES, "better": "lower",
                    "config": {"engine": engine, "page": heaviest["figure"], "size": size}})  # fmt: skip
    return figures


def _first_load(client: Any, answer: Any) -> int:
    """Bytes of the page and of what it names, uncompressed, without the chart script."""
    page = answer.content
    named = re.findall(rb'(?:src|href)="(/static/[^"]+)"', page)
    total = len(page)
    for address in {name.decode() for name in named if b"plotly" not in name}:
        got = client.get(address)
        total += len(b"".join(got.streaming_content) if got.streaming else got.content)
    return total


def _postgresql(rest: list[str]) -> int:
    """Run this script against Debian's PostgreSQL in a folder that goes afterwards."""
    from tests.support.engines import postgresql_server

    with postgresql_server() as url:
        environment = {**os.environ, "FEDSLICE_DATABASE": url}
        command = [sys.executable, "-m", "benchmarks.pages", "--engine", "postgresql", *rest]
        return subprocess.run(command, env=environment).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--small", action="store_true", help="a fiftieth of it, to see that it runs")
    parser.add_argument("--large", action="store_true", help=f"{LARGE}")
    parser.add_argument("--million", action="store_true", help=f"{MILLION}")
    chosen = parser.parse_args()
    size = next((one for one in SIZES if one != "usual" and getattr(chosen, one)), "usual")
    rest = [] if size == "usual" else [f"--{size}"]
    if chosen.engine == "both":
        own = [sys.executable, "-m", "benchmarks.pages", "--engine"]
        return max(subprocess.run([*own, engine, *rest]).returncode for engine in ("sqlite", "postgresql"))
    if chosen.engine == "postgresql" and "FEDSLICE_DATABASE" not in os.environ:
        return _postgresql(rest)
    with tempfile.TemporaryDirectory() as folder:
        log_pages.set_up(Path(folder))
        figures = measure(chosen.engine, SIZES[size])
    for figure in figures:
        print(json.dumps(figure))
    print(f"\n{chosen.engine}, {datetime.now(UTC):%Y-%m-%d}")
    print(f"{'page':<34}{'median ms':>10}{'of it CPU':>10}{'slowest':>10}{'first load kB':>15}")
    for figure in figures[:-1]:
        config, name = figure["config"], figure["figure"][5:]
        kilobytes = config["first_load"] / 1000
        print(f"{name:<34}{figure['value']:>10}{config['cpu']:>10}{config['slowest']:>10}{kilobytes:>15.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
