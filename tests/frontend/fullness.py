"""A world that has lived: a run with published rounds and signed receipts, red checks, actions."""

from __future__ import annotations

import json
import secrets
import time
from datetime import timedelta
from typing import Any

import msgspec
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from contracts.canonical import canonical, digest
from contracts.policy import SgxReference
from contracts.receipts import NO_RECEIPT, Receipt, ReceiptInput, receipt_hash
from contracts.releases import EXPORT, SEALED
from contracts.server_statements import sign_receipt
from contracts.signing import SigningKey
from contracts.sweep_tree import SweepTree
from enclave_host.proving.registration import SHAPE
from enclave_jobs.blobs.models import Blob, Issue
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.jobs.models import Job
from enclave_jobs.releases.models import Release, ReleaseSignature, ReleaseState
from enclave_jobs.runs import sweeps
from enclave_jobs.runs.models import Contribution, Round, Run
from enclave_jobs.runs.sweeps import Axes
from federation.attestation import references
from federation.attestation.models import Root
from federation.audit.services import record
from federation.ids import new_id
from federation.people.models import Role, User
from federation.sites import maintenance
from federation.sites.models import Site
from federation.studies import services
from federation.studies.models import BaseModel, Event, ModelJob, Study
from federation.studies.plan import read, write
from tests.federation.cast import make_person
from tests.slicing.small import config
from tests.support.proofs import freeze

CHECKS: list[dict[str, str]] = [
    {"name": "enrolment", "outcome": "pass", "found": "site 0f3a, with https://coordinator.example"},
    {"name": "proxy", "outcome": "pass", "found": "proxy.anna.example:3128 (HTTPS_PROXY)"},
    {"name": "TLS", "outcome": "fail",
     "found": "not trusted (unable to get local issuer certificate); the certificate is by Gatekeeper AG",
     "hint": "If your network opens TLS, ask for an exception, or enrol with --ca-bundle FILE.",
     "letter": "Subject: outgoing HTTPS from agent.anna.example to coordinator.example, port 443\n\nPlease "
     "exempt coordinator.example from TLS inspection."},
    {"name": "clock", "outcome": "warn", "found": "7 s apart from the coordinator's",
     "hint": "Switch time synchronisation on: timedatectl set-ntp true"},
    {"name": "disk", "outcome": "pass", "found": "412.0 GiB free"},
    {"name": "memory", "outcome": "pass", "found": "64.0 GiB in this machine"},
    {"name": "GPU", "outcome": "pass", "found": "none; the processor does the multiplications, slower"},
    {"name": "TEE", "outcome": "warn", "found": "runtime development; hardware here: none",
     "hint": "Development evidence protects nothing against this machine's own administrators."},
    {"name": "PCCS", "outcome": "pass", "found": "not needed for the runtime development"},
    {"name": "versions", "outcome": "pass", "found": "site agent 0.1.0, torch 2.13.0, transformers 5.23.0"},
]  # fmt: skip


def scores(number: int, shift: float) -> dict[str, float]:
    """What a held-out evaluation says, a little better each round."""
    accuracy = min(0.98, 0.42 + shift + 0.44 * (1 - 0.6**number))
    return {
        "accuracy": accuracy,
        "macro_f1": accuracy - 0.03,
        "loss": 1.3 * 0.75**number - 0.6 * shift,
        "rows": 120,
    }


TABLES = {
    "cell": 5, "confusion": [[35, 5, 0], [5, 30, 5], [0, 10, 30]], "truth": [40, 40, 40],
    "predicted": [40, 45, 35], "auroc": 0.9, "calibration_error": 0.1,
    "reliability": [[0, 0, 0, 5, 10, 10, 15, 20, 25, 35], [0, 0, 0, 0, 5, 5, 10, 15, 25, 35]],
}  # fmt: skip
"""Of the test of three labels."""


def live_on(world: dict[str, Any], rounds: int = 4) -> Run:
    """Fill `world` (tests/frontend/conftest.py): `rounds` published rounds, one in progress."""
    run = Run.objects.get(pk=world["run_id"])
    Run.objects.filter(pk=run.pk).update(state="running", enclave_id="aggregator-1")
    key, previous = SigningKey.generate(), NO_RECEIPT
    sites = list(Site.objects.filter(contributions__round__run=run).distinct().order_by("pk"))
    enclave = Enclave.objects.create(
        id="aggregator-1", run=run, epoch=1, program="aggregator", state="ready", signing_key=key.public,
        measurement="1".rjust(64, "0"), ready_at=timezone.now(),
    )  # fmt: skip
    Event.objects.create(study=run.study, run=run, kind="run.joining")
    Round.objects.filter(run=run, number=0).update(number=rounds + 1, state="collecting")
    for number in range(1, rounds + 1):
        inputs = tuple(
            ReceiptInput(site.pk, secrets.token_hex(32), 1_310_720 + 4096 * number, 40) for site in sites
        )
        pooled = scores(number, 0.0)
        metrics = {"pooled": pooled}
        receipt = Receipt(
            version=1, manifest=run.manifest_hash, run=run.pk, round=number, roster=secrets.token_hex(32),
            inputs=inputs, output=secrets.token_hex(32), state=None, metrics={"pooled": pooled},
            previous=previous, program="aggregator", measurement=enclave.measurement, development=True,
            issued=int(time.time()),
        )  # fmt: skip
        previous = receipt_hash(receipt)
        row = Round.objects.create(
            run=run, number=number, state="published", metrics=metrics, closed_at=timezone.now(),
            receipt=msgspec.to_builtins(sign_receipt(receipt, key)),
        )  # fmt: skip
        for given in inputs:
            Contribution.objects.create(
                round=row, site_id=given.site, state="accepted", blob=given.sha256, bytes=given.bytes,
                samples=given.samples,
            )  # fmt: skip
            Blob.objects.create(
                sha256=given.sha256, bytes=given.bytes, owner_site_id=given.site, run=run, complete=True
            )
        Issue.objects.create(
            round=row, enclave=enclave.pk, sha256=secrets.token_hex(32), bytes=655_360, recipients=[]
        )
        Event.objects.create(study=run.study, run=run, round=row, kind="round.published")
    current = Round.objects.get(run=run, number=rounds + 1)
    first = current.contributions.order_by("site_id")[0]
    Contribution.objects.filter(pk=first.pk).update(state="working")
    Job.objects.create(
        run=run, round=current, site_id=first.site_id, enclave=enclave.pk, kind="train", state="leased",
        progress={"stage": "epoch 1 of 1", "fraction": 0.4},
    )  # fmt: skip
    Event.objects.create(
        study=run.study, run=run, round=current, site=first.site, kind="contribution.working"
    )
    _hospitals(sites)
    _lead(world, run)
    return run


def _lead(world: dict[str, Any], run: Run) -> None:
    """A finished run with another rank, one that an older version ran, and drafts of both methods for a model
    whose shape is on record."""
    shape = {name: getattr(config("bert"), name, None) for name in SHAPE}
    known = {name: value for name, value in shape.items() if value is not None}
    BaseModel.objects.update(config=known, parameters=22_000_000)
    asked = {"kind": "register", "by": run.study.lead, "source": "tiny"}
    reported = {"tensor": "encoder.layer.0.output.dense.weight", "file": "model.safetensors", "count": 3}
    ModelJob.objects.create(**asked, state="refused", error_code="model.not_finite", facts=reported)
    ModelJob.objects.create(**asked, state="running", progress={"stage": "tensors", "done": 2, "of": 5})
    # One that the wizard can freeze for Method 2.
    value = SgxReference(program="split_server", mrenclave="3" * 64)
    references.add(None, value, root=Root.DEVELOPMENT, reason="for this test")
    draft, study = Study.objects.get(pk=world["draft_id"]), run.study
    Study.objects.filter(pk=draft.pk).update(purpose="Does a higher rank sort triage notes better?")
    draft.datasets.set(study.datasets.all())
    split = services.clone_study(study.lead, study, "Triage, split after layer 1")
    plan = msgspec.structs.replace(read(split.settings), method="method-2", cut=1)
    Study.objects.filter(pk=split.pk).update(settings=write(plan))
    world["split_id"] = split.pk
    for key, rank, older in (("ended_id", 16, False), ("older_id", 4, True)):
        world[key] = _ended(run, rank, older).pk


def ask_for_a_sweep(world: dict[str, Any]) -> None:
    """A sweep that waits for signatures: an officer has asked and approved, the key has not."""
    run, site = Run.objects.get(pk=world["run_id"]), Site.objects.get(pk=world["site_id"])
    lead = run.study.lead
    study = services.clone_study(lead, run.study, "Triage at several ratios")
    plan = msgspec.structs.replace(read(study.settings), method="method-2", cut=3, release="export")
    Study.objects.filter(pk=study.pk).update(settings=write(plan))
    study.refresh_from_db()
    sweep = sweeps.create(lead, study, Axes(ratios=(12.5, 25.0), seeds=(0, 1)), "Ratios", releases=2)
    points = [freeze(lead, point.study) for point in sweep.points.select_related("study")]
    officer = make_person("odile@anna.example", Role.SITE_ADMIN, site, post="officer")
    root = SweepTree([point.hash for point in points]).root
    client = Client()
    for by, address, typed in (
        (officer, "sweep-thread", {"kind": "message", "text": "Why these ratios?", "manifest_hash": root}),
        (lead, "sweep-thread", {"kind": "message", "text": "They bracket the paper's.", "site": site.pk}),
        (officer, "sweep-approve", {"root": root}),
    ):
        client.force_login(by)
        client.post(reverse(address, args=[sweep.pk]), typed)
    world["asked_id"] = sweep.pk


def releases_of(run: Run) -> dict[str, str]:
    """Finished runs like this one by how far their releases are: nobody has asked, it waits for a signature,
    it is out. One that failed is asked for again."""
    found = {}
    for number, state in enumerate(("open", *ReleaseState.values)):
        rule = EXPORT if state in ("open", "failed") else SEALED
        ended = _ended(run, 32 + number, rule=rule)
        found[state] = ended.pk
        if state == "open":
            continue
        release = Release.objects.create(
            run=ended, rule=rule, receipt=secrets.token_hex(32), asked_by=run.study.lead, state=state,
            released_at=timezone.now(), bytes=1_310_720, output=secrets.token_hex(32),
            statement={"released": {"package": secrets.token_hex(32)}},
            error_code="release.missing_config" if state == "failed" else "",
        )  # fmt: skip
        sites = list(Site.objects.filter(contributions__round__run=run).distinct().order_by("pk"))
        for site in sites[: 1 if state == "waiting" else None]:
            ReleaseSignature.objects.create(release=release, site=site, signature="0" * 128)
    return found


def _ended(run: Run, rank: int, older: bool = False, rule: str = "nothing") -> Run:
    manifest = json.loads(run.manifest)
    manifest |= {"run": new_id(), "adapter": {**manifest["adapter"], "rank": rank}}
    manifest["release"] = {**manifest["release"], "rule": rule}
    if older:
        for name in ("schedule", "warmup", "patience", "proximal"):
            del manifest["training"][name]
    text = canonical(manifest).decode()
    study = services.clone_study(run.study.lead, run.study, f"Triage, rank {rank}")
    Study.objects.filter(pk=study.pk).update(state="finished", manifest=text, manifest_hash=digest(manifest))
    now = timezone.now()
    ended = Run.objects.create(
        id=manifest["run"], study=study, manifest=text, manifest_hash=digest(manifest), state="finished",
        finished_at=now, summary={"seconds": 412.0, **scores(4, rank / 200)},
    )  # fmt: skip
    Event.objects.create(study=study, run=ended, kind="run.joining")
    for number in range(1, 6):
        kind = "evaluate" if number == 5 else "train"
        metrics = {"pooled": scores(number, rank / 200)}
        Round.objects.create(
            run=ended, number=number, kind=kind, state="published", metrics=metrics, closed_at=now
        )
    tested = {"test": {**scores(4, rank / 200), **TABLES}}
    Round.objects.create(run=ended, number=8, kind="test", state="published", metrics=tested, closed_at=now)
    Event.objects.create(study=study, run=ended, kind="run.finished")
    return ended


def _hospitals(sites: list[Site]) -> None:
    now = timezone.now()
    by = User.objects.filter(role=Role.OPERATOR).first()
    for site in sites:
        site.checks, site.checks_at, site.last_seen = CHECKS, now, now
        site.save()
        if by is not None:
            starts = now + timedelta(hours=20)
            maintenance.plan(by, site, starts, starts + timedelta(hours=3), weekly=True, reason="backup")
        record(None, "site.enrolled", f"site:{site.pk}", public_key=site.public_key, runtime=site.runtime)
