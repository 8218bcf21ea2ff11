"""The demo's story: people and hospitals come, a study is approved and launched, the run is watched, and the
same rows train the baselines beside it."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
from django.conf import settings
from django.core import mail
from django.core.management import call_command

from benchmarks.demo.hospital import REPOSITORY, Hospital
from contracts.manifest import Manifest, Placement
from contracts.receipt_chain import parse_receipt, verify_chain
from enclave_jobs.base_models import model_jobs
from enclave_jobs.runs.models import Round, Run, RunState
from enclave_jobs.runs.queries import timeline
from enclave_jobs.runs.services import launch
from federation.frozen import manifest_of
from federation.people import services as people
from federation.people.models import User
from federation.sites import services as sites
from federation.sites.models import Site
from federation.studies import services
from federation.studies.models import Study
from federation.studies.plan import Plan
from frontend.methods import named
from frontend.timeline import sentence

MODEL = "embedded:all-MiniLM-L6-v2"
NAMES = ("St. Anna", "Bethany Clinic", "Municipal Hospital North")
PLAN = Plan(
    model=MODEL,
    rounds=4,
    local_epochs=1,
    batch_size=16,
    learning_rate=1e-3,
    max_tokens=64,
    targets=("query", "key", "value", "dense"),
    quorum=2,
    deadline_seconds=900,
    vault_bytes=512 << 20,
)
METHOD_2: dict[str, Any] = {"method": "method-2", "cut": 3, "attention_ratio": 50.0, "dense_ratio": 50.0}
ROWS, TEST_ROWS = 240, 100
# What a script says of a dataset that a person would be asked.
NAMED = ("--text-column", "text", "--label-column", "label", "--keep", "rare-labels")
ENDED = (RunState.FINISHED, RunState.FAILED, RunState.CANCELLED)
JOIN_SECONDS, RUN_SECONDS = 60.0, 1500.0


def _frozen(lead: User, study: Study) -> Manifest:
    """The worker tries the model and freezes the study."""
    job = model_jobs.ask_to_freeze(lead, study)
    while job.state in model_jobs.OPEN:
        time.sleep(0.5)
        job.refresh_from_db()
    if job.error_code:
        raise RuntimeError(f"the study was not frozen: {job.error_code} {job.facts}")
    study.refresh_from_db()
    return manifest_of(study)


class Story:
    """`state` is the demo's folder; `data` a folder with real data, or None for synthetic ones; `placement`
    where the hospitals' frozen layers are multiplied; `method` which of the two. This one sorts notes with an
    encoder; `language.py` has another."""

    model = MODEL
    task = "sequence-classification"
    named = NAMED
    rows_are = "synthetic notes"
    run_seconds = RUN_SECONDS
    question = "do three hospitals together sort texts better than each of them alone?"

    def __init__(
        self,
        state: Path,
        data: Path | None,
        placement: Placement,
        method: Literal["method-1", "method-2"] = "method-1",
    ) -> None:
        self.state, self.data = state, data
        self.plan = self.plan_of(placement, method)
        self.password = secrets.token_urlsafe(12)
        self.hospitals: list[Hospital] = []
        self.run: Run | None = None
        # Invitations stay in this process: their links are followed at once.
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

    def plan_of(self, placement: Placement, method: str) -> Plan:
        """The study's settings."""
        plan = msgspec.structs.replace(PLAN, placement=placement)
        return msgspec.structs.replace(plan, **METHOD_2) if method == "method-2" else plan

    def tell(self) -> dict[str, Any]:
        """From an empty coordinator to the summary of a finished run."""
        started = time.monotonic()
        with step("an operator, a lead and an auditor get their accounts"):
            operator = people.create_operator("operator@demo.example", self.password)
            lead = self._join(operator, "lead@demo.example", "lead")
            self._join(operator, "auditor@demo.example", "auditor")
        with step("the base model is pinned and the enclave programs are measured"):
            call_command("register_model", self.model, task=self.task, stdout=sys.stderr)
            call_command("register_measurements", stdout=sys.stderr)
        with step("three hospitals get their rows" + ("" if self.data else f" ({self.rows_are})")):
            files = self._files()
        for name, file in zip(NAMES, files, strict=True):
            with step(f"{name} enrols, offers its dataset and starts its agent"):
                self._enrol(lead, name, file)
        with step("a study is frozen, and every hospital reads and signs it"):
            study = self._approved_study(lead)
        self.run = launch(lead, study)
        say(f"the run starts; watch it at {settings.PUBLIC_URL}/runs/{self.run.pk}")
        self._watch(self.run)
        more = self.afterwards(lead, self.run)
        return self._summary(self.run, more, time.monotonic() - started)

    def afterwards(self, _lead: User, run: Run) -> dict[str, Any]:
        """What follows on the run, for the summary: the baselines. The same training of all rows in one
        process, on the same cores, is also the measure of what the federation costs in time."""
        with step("baselines: each hospital alone, and all rows in one place"):
            found = self._baselines(run)
        seconds = {
            "seconds_baselines": found["seconds"],
            "demo_run_over_bare_loop": round(run.summary["seconds"] / found["seconds_centralised"], 2),
        }
        return {name: found[name] for name in ("accuracy_local_mean", "accuracy_centralised")} | seconds

    @property
    def title(self) -> str:
        """The study's name."""
        return "What is this passage about?" if self.data else "Triage of synthetic notes"

    def farewell(self) -> None:
        """How to look round in the dashboard, which stays up."""
        say("")
        say(f"The dashboard is at {settings.PUBLIC_URL}; every account has the password {self.password}")
        for user in User.objects.order_by("role", "email"):
            say(f"  {user.email:<28} {user.get_role_display()}")
        say("Stop with Ctrl-C.")

    def stop(self) -> None:
        """Stop the agents."""
        for hospital in self.hospitals:
            hospital.stop()

    def _join(self, by: User, email: str, role: str, hospital: str = "") -> User:
        people.invite(by, email, role)
        link = re.search(r"/invitations/([^/\s]+)/", str(mail.outbox[-1].body))
        assert link is not None
        return people.accept_invitation(link.group(1), password=self.password, site_name=hospital)

    def _files(self) -> list[Path]:
        from benchmarks.hospitals import hospitals, write

        folder = self.state / "data"
        folder.mkdir(parents=True)
        files = [folder / f"hospital-{number}.jsonl" for number in (1, 2, 3)]
        if self.data:
            rows = hospitals(self.data, rows=ROWS, test_rows=TEST_ROWS)
            for file, site in zip(files, rows, strict=True):
                write(rows[site], file)
        else:
            for number, file in enumerate(files, 1):
                _quietly("site_agent", "dataset", "synthetic", "--hospital", str(number),
                         "--rows", str(ROWS + TEST_ROWS), "--seed", "1", str(file))  # fmt: skip
        return files

    def _enrol(self, lead: User, name: str, data: Path) -> None:
        slug = name.lower().replace(".", "").replace(" ", "-")
        admin = self._join(lead, f"admin@{slug}.example", "site_admin", name)
        hospital = Hospital(name, admin.email, self.state / slug, data)
        self.hospitals.append(hospital)
        command = sites.enrolment_command(admin, Site.objects.get(pk=admin.site_id))
        hospital.agent(*command.split()[3:], "--development-approval-key")
        hospital.agent("dataset", "add", str(data), "--name", "notes", *self.named, "--yes")
        hospital.start(self.state / f"{slug}.log")

    def _approved_study(self, lead: User) -> Study:
        from federation.datasets.models import Dataset

        study = services.create_study(
            lead,
            name=self.title,
            purpose=f"The demo: {self.question}",
            plan=self.plan,
            datasets=list(Dataset.objects.all()),
        )
        manifest = _frozen(lead, study)
        unbounded = ("--accept", "unbounded") if self.plan.privacy == "none" else ()
        for hospital in self.hospitals:
            services.approve_in_browser(User.objects.get(email=hospital.admin), study, manifest.hash)
            # Whoever runs the demo is all of its hospitals, and needs no letter from them.
            hospital.agent("approve", "--yes", "--hash", manifest.hash, "--confirm-members", *unbounded)
        return study

    def _watch(self, run: Run) -> None:
        """Say each line of the timeline as it comes, until the run ends."""
        seen, deadline = 0, time.monotonic() + self.run_seconds
        method = named(self.plan.method)
        while True:
            run.refresh_from_db()
            for event in timeline(run, after=seen):
                seen = event.pk
                if not event.kind.startswith("contribution.") or event.kind.endswith(("dropped", "refused")):
                    published = event.kind == "round.published"
                    say(f"  {sentence(event, method)}{_accuracy(event.round) if published else ''}")
            if run.state in ENDED:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"the run is still {run.state}; see {settings.STATE_DIR / 'logs'}")
            time.sleep(0.5)
        if run.state != RunState.FINISHED:
            raise RuntimeError(f"the run is {run.state}: {run.error_code} {run.facts}")

    def _baselines(self, run: Run) -> dict[str, Any]:
        """In a process of their own, on the same rows: they see everything in the clear."""
        request = self.state / "baselines.json"
        kept = {
            Site.objects.get(name=hospital.name).pk: str(_kept_rows(hospital)) for hospital in self.hospitals
        }
        request.write_text(json.dumps({"manifest": run.manifest, "files": kept}))
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.demo.baselines", str(request)],
                cwd=REPOSITORY,
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as child,
        ):
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith("{"):
                    return json.loads(line)
                say(f"  {line.rstrip()}")
            errors.seek(0)
            raise RuntimeError(f"the baselines failed:\n{errors.read()[-2000:]}")

    def _summary(self, run: Run, more: dict[str, Any], seconds: float) -> dict[str, Any]:
        summary = run.summary
        receipts = [parse_receipt(row.receipt) for row in run.rounds.filter(receipt__isnull=False)]
        verify_chain(receipts, manifest=run.manifest_hash)
        return {
            "sites": summary["sites"],
            "rounds": summary["rounds"],
            "samples": summary["samples"],
            "best_round": summary["best_round"],
            "accuracy_validation": summary.get("accuracy"),
            "accuracy_federated": summary["test"].get("accuracy"),
            "accuracy_local_mean": None,
            "accuracy_centralised": None,
            "macro_f1_federated": summary["test"].get("macro_f1"),
            "bytes_up": summary["bytes_up"],
            "bytes_down": summary["bytes_down"],
            "seconds": round(seconds, 1),
            "seconds_run": summary["seconds"],
            "runtime": "development",
            "placement": self.plan.placement,
            "method": self.plan.method,
            "receipts_verified": len(receipts),
            "run_manifest": run.manifest_hash,
            "data": self.data.name if self.data else "synthetic",
            **more,
        }


def say(line: str) -> None:
    """Progress is for people, so it goes to stderr; stdout carries the summary."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    started = time.monotonic()
    say(f"… {what}")
    yield
    say(f"  done in {time.monotonic() - started:.1f} s")


def _accuracy(round: Round | None) -> str:
    metrics = round.metrics if round is not None else {}
    if "exact_match" in metrics.get("test", {}):
        return f" The best round on test rows: {100 * metrics['test']['exact_match']:.0f} % written exactly."
    if "exact_match" in metrics.get("pooled", {}):
        share = metrics["pooled"]["exact_match"]
        return f" It began, on validation rows, with {100 * share:.0f} % written exactly."
    if "accuracy" in metrics.get("test", {}):
        return f" The best round on test rows: accuracy {100 * metrics['test']['accuracy']:.1f} %."
    if "accuracy" in metrics.get("pooled", {}):
        return f" It began, on validation rows, at {100 * metrics['pooled']['accuracy']:.1f} %."
    return ""


def _kept_rows(hospital: Hospital) -> Path:
    """The normalised rows that the agent keeps: exactly what its enclave trained on."""
    found = sorted((hospital.state / "datasets").rglob("*.jsonl"))
    if len(found) != 1:
        raise RuntimeError(f"{hospital.name} keeps {len(found)} files of rows, not one")
    return found[0]


def _quietly(module: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL
    )
