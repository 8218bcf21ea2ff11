"""A run with its manifest, two hospitals and jobs, straight in the database, for tests that need no
enclave."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import msgspec

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
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import Job, JobKind
from enclave_jobs.runs.models import Contribution, Round, Run
from federation.attestation import references
from federation.attestation.models import Root
from federation.ids import new_id
from federation.people.models import Role
from federation.studies.models import Approval, Study
from tests.federation.cast import Hospital, make_hospital, make_person
from tests.support.approvals import approve
from tests.support.keys import approval_key

REFERENCE = SgxReference("aggregator", mrenclave="1" * 64)
UPDATE = {"sha256": "0" * 64, "bytes": 10}


def answer(response: Any) -> Any:
    return json.loads(response.content) if response.content else None


def manifest_of(run: str, hospitals: list[Hospital], **changes: Any) -> Manifest:
    members = tuple(
        Member(
            hospital.site.pk,
            hospital.site.name,
            hospital.key.public,
            approval_key(hospital.key).public,
            DatasetRef("notes", "0" * 64, 60),
        )
        for hospital in sorted(hospitals, key=lambda hospital: hospital.site.pk)
    )
    manifest = Manifest(
        version=1,
        run=run,
        study="Triage",
        purpose="Test",
        method="method-1",
        placement="all_in_tee",
        runtime="development",
        model=ModelSpec("tiny", "sequence-classification", {"config.json": "c" * 64}, ("a", "b"), 16),
        adapter=Lora(4, 8, ("query",)),
        training=Training(rounds=2, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7),
        sites=members,
        aggregation=Aggregation("fedavg", quorum=1, deadline_seconds=60),
        policy=Policy("development", "0" * 64, (REFERENCE,)),
        release=Release("nothing", 1),
        minimum_time=int(time.time()) - 60,
    )
    return msgspec.structs.replace(manifest, **changes)


def offer(run: Run, site: str, kind: JobKind, round: Round | None, inputs: dict[str, Any]) -> Job:
    """A job for this site alone, for the run's present enclave."""
    leases.offer(run, kind, run.enclave_id, round=round, common=inputs, sites={site: None})
    return Job.objects.get(run=run, site=site, kind=kind, round=round, enclave=run.enclave_id)


@dataclass
class Scene:
    """A running run with an attested enclave and an open round."""

    anna: Hospital
    berta: Hospital
    stranger: Hospital
    run: Run
    round: Round
    enclave: Enclave

    def offer(self, hospital: Hospital, kind: JobKind = JobKind.TRAIN, **inputs: Any) -> Job:
        round = None if kind == JobKind.JOIN else self.round
        return offer(self.run, hospital.site.pk, kind, round, inputs)

    def leased(self, hospital: Hospital, kind: JobKind = JobKind.TRAIN, **inputs: Any) -> tuple[Job, int]:
        """A job that this hospital has leased over the API; the job and the lease's number."""
        self.offer(hospital, kind, **inputs)
        reported = answer(hospital.call("POST", "lease", {}))
        return Job.objects.get(pk=reported["id"]), reported["lease"]


def make_scene(**changes: Any) -> Scene:
    references.add(None, REFERENCE, root=Root.DEVELOPMENT, reason="for this test")
    anna, berta, stranger = (
        make_hospital("St. Anna"),
        make_hospital("St. Barbara"),
        make_hospital("St. Clara"),
    )
    lena = make_person("lena@university.example", Role.LEAD)
    study = Study.objects.create(name="Triage", lead=lena, state="running")
    identifier = new_id()
    manifest = manifest_of(identifier, [anna, berta], **changes)
    run = Run.objects.create(
        id=identifier,
        study=study,
        manifest=canonical(manifest).decode(),
        manifest_hash=manifest.hash,
        state="running",
        enclave_id=f"{identifier}-1",
    )
    enclave = Enclave.objects.create(
        id=f"{identifier}-1", run=run, epoch=1, program="aggregator", state=EnclaveState.READY
    )
    round = Round.objects.create(run=run, number=1, state="collecting")
    known = [site.id for site in manifest.sites]
    for hospital in (anna, berta):
        Contribution.objects.create(round=round, site=hospital.site)
        given = approve(manifest.hash, hospital.site.pk, hospital.key, known)
        Approval.objects.create(
            study=study,
            site=hospital.site,
            manifest_hash=manifest.hash,
            confirmed=list(given.confirmed),
            signature=given.signature,
        )
    return Scene(anna, berta, stranger, run, round, enclave)
