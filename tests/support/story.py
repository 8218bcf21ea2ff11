"""From nothing to a finished run without a browser: services and command lines of a real installation."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from tests.site_agent.trial import accepted
from tests.support.beginnings import EMBEDDED as MODEL
from tests.support.installation import DEVELOPMENT, NAMED, PASSWORD, Agent, Installation, wait_for

ENDED = ("finished", "failed", "cancelled")

_PRELUDE = """
import json, re
from django.conf import settings
settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
from django.core import mail
from enclave_jobs.runs.services import launch
from federation.people import services as people
from federation.people.models import User
from federation.sites import services as sites
from federation.sites.models import Site
from federation.studies import services
from federation.studies.freezing import build_manifest
from federation.studies.models import ModelJob, Study
from enclave_jobs.runs.models import Run
from federation.studies.plan import Plan
from federation.studies.tried import subject_of
from federation.datasets.models import Dataset
def join(by, email, role, hospital=""):
    people.invite(by, email, role)
    token = re.search(r"/invitations/([^/\\s]+)/", str(mail.outbox[-1].body)).group(1)
    return people.accept_invitation(token, password=PASSWORD, site_name=hospital)
"""


def ask(installation: Installation, code: str, **values: Any) -> Any:
    """Run lines with the services at hand; `answer` is what comes back (through JSON)."""
    given = "".join(f"{name} = json.loads({json.dumps(value)!r})\n" for name, value in values.items())
    prelude = f"PASSWORD = {PASSWORD!r}\n{_PRELUDE}{given}"
    said = installation.shell(f"{prelude}\n{code}\nprint('ANSWER', json.dumps(answer))")
    return json.loads(said.rsplit("ANSWER ", 1)[1])


def found(installation: Installation, *, lead: str = "lena@study.example", model: str = MODEL) -> None:
    """The operator, a lead, the base model and the measurements."""
    ask(installation, "op = people.create_operator('olga@coordinator.example', PASSWORD)\n"
        "join(op, lead, 'lead')\nanswer = None", lead=lead)  # fmt: skip
    if installation.model is None:
        installation.manage("register_model", model)
    installation.manage("register_measurements")


def hospital(installation: Installation, folder: Path, name: str, rows: list[dict[str, str]]) -> Agent:
    """A hospital whose agent is enrolled, has published `rows` and runs."""
    email = f"admin-{secrets.token_hex(4)}@hospital.example"
    command = ask(
        installation,
        "admin = join(User.objects.get(role='lead'), email, 'site_admin', name)\n"
        "answer = sites.enrolment_command(admin, admin.site)",
        email=email,
        name=name,
    )
    folder.mkdir(parents=True)
    agent = Agent(
        folder / "state", {**installation.environment, "HF_HUB_OFFLINE": "1"}, installation.repository
    )
    agent.run(*command.split()[3:], DEVELOPMENT)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    agent.run("dataset", "add", str(file), "--name", "notes", *NAMED, "--yes")
    agent.start()
    return agent


def launched(installation: Installation, agents: list[Agent], **plan: Any) -> str:
    """A study over all published datasets, approved by these agents, and its run launched: the run's id."""
    manifest = ask(
        installation,
        "lead = User.objects.get(role='lead')\n"
        "study = services.create_study(lead, name='Notes', purpose='', plan=Plan(**plan), "
        "datasets=list(Dataset.objects.all()))\n"
        "subject = subject_of(build_manifest(study))\n"  # as the job does that tries the model
        "ModelJob.objects.create(kind='freeze', state='done', by=lead, study=study, subject=subject)\n"
        "answer = services.freeze(lead, study).hash",
        plan={"model": MODEL, "max_tokens": 32, "rounds": 2, "deadline_seconds": 300, **plan},
    )
    for agent in agents:
        agent.run("approve", "--yes", "--hash", manifest, *accepted(plan))
    return ask(
        installation,
        "study = Study.objects.get(manifest_hash=manifest)\nanswer = launch(study.lead, study).pk",
        manifest=manifest,
    )


def run_of(installation: Installation, run: str) -> dict[str, Any]:
    """State, code, summary and rounds of a run."""
    return ask(
        installation,
        "r = Run.objects.get(pk=run)\n"
        "answer = {'state': r.state, 'code': r.error_code, 'facts': r.facts, 'summary': r.summary, "
        "'rounds': {x.number: x.state for x in r.rounds.all()}}",
        run=run,
    )


def ended(installation: Installation, run: str, seconds: float = 240) -> dict[str, Any]:
    """Wait for the run's end and return what it came to."""

    def look() -> dict[str, Any] | None:
        now = run_of(installation, run)
        return now if now["state"] in ENDED else None

    result = wait_for(look, seconds, f"run {run} ends", every=0.5)
    assert isinstance(result, dict)
    return result
