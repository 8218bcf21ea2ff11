"""The life of a study, from draft to launch. Every write about studies and approvals is here; runs are
launched and steered in enclave_jobs/runs/services.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from contracts.approvals import Approval as Given
from contracts.approvals import verify_approval
from contracts.canonical import canonical
from contracts.counting import known_to_all, least_confirmed
from contracts.manifest import Manifest
from contracts.model_proof import ModelProof
from contracts.refusal import Refusal
from federation.attestation.log import Attachment, append
from federation.attestation.references import still_in_force
from federation.audit.services import record
from federation.datasets.models import Dataset
from federation.datasets.permissions import visible_to as datasets_visible_to
from federation.frozen import manifest_of
from federation.people.models import User
from federation.sites.models import Site, SiteState
from federation.studies import permissions, queries
from federation.studies.events import apply
from federation.studies.freezing import build_manifest
from federation.studies.models import Approval, BaseModel, Event, Study, StudyState
from federation.studies.plan import Plan, read, write
from federation.studies.tried import require_tried
from transparency_log.entry import APPROVAL, ApprovalBody


def register_base_model(source: str, proof: ModelProof, name: str = "") -> BaseModel:
    """Offer a base model to studies, pinned by the hashes of the files that were proven. Registering again
    replaces pins and proof for studies that are not frozen yet; frozen manifests keep theirs."""
    with transaction.atomic():
        model, _ = BaseModel.objects.update_or_create(
            source=source,
            task=proof.task,
            defaults={
                "files": proof.files,
                "name": name or source,
                "parameters": proof.parameters,
                "max_tokens": proof.positions,
                "targets": list(proof.targets),
                "config": proof.shape,
                "proof": msgspec.to_builtins(proof),
            },
        )
        record(None, "model.registered", f"model:{model.pk}", source=source, task=proof.task)
    return model


def create_study(by: User, *, name: str, purpose: str, plan: Plan, datasets: Sequence[Dataset]) -> Study:
    """A new draft.

    Raises: `auth.forbidden`, `study.invalid_plan`.
    """
    _require(permissions.can_create(by))
    with transaction.atomic():
        study = Study(lead=by)
        _fill(study, by, name, purpose, plan, datasets)
        record(by, "study.created", f"study:{study.pk}", name=study.name)
    return study


def clone_study(by: User, study: Study, name: str) -> Study:
    """A new draft of `by` with the plan and the datasets of a study that they may see, but for those datasets
    that are withdrawn.

    Raises: `auth.forbidden`, `study.invalid_plan`.
    """
    _require(permissions.can_create(by) and permissions.can_see(by, study))
    return create_study(
        by,
        name=name,
        purpose=study.purpose,
        plan=read(study.settings),
        datasets=list(datasets_visible_to(by).filter(studies=study, withdrawn_at=None)),
    )


def update_study(
    by: User, study: Study, *, name: str, purpose: str, plan: Plan, datasets: Sequence[Dataset]
) -> None:
    """Change a draft.

    Raises: `auth.forbidden`, `study.wrong_state`, `study.invalid_plan`.
    """
    _require(permissions.can_edit(by, study))
    with transaction.atomic():
        _locked(study, StudyState.DRAFT)
        _fill(study, by, name, purpose, plan, datasets)
        record(by, "study.updated", f"study:{study.pk}")


def _fill(study: Study, by: User, name: str, purpose: str, plan: Plan, datasets: Sequence[Dataset]) -> None:
    visible = datasets_visible_to(by).filter(pk__in=[dataset.pk for dataset in datasets])
    _require(visible.count() == len({dataset.pk for dataset in datasets}))
    study.name = " ".join(name.split())[:200]
    study.purpose = purpose.strip()[:4000]
    study.settings = write(plan)
    if not study.name:
        raise Refusal("study.invalid_plan", fault="the study has no name")
    study.save()
    study.datasets.set(datasets)


def freeze(by: User, study: Study) -> Manifest:
    """Fix everything in a manifest and ask the sites for their approval of its hash.

    Called by the job that has just seen the model to be tuned exactly so (`model_jobs`).

    Raises: `auth.forbidden`, `study.wrong_state`, `study.untried`, or what `build_manifest` raises.
    """
    _require(permissions.can_edit(by, study))
    with transaction.atomic():
        _locked(study, StudyState.DRAFT)
        manifest = build_manifest(study)
        require_tried(study, manifest)
        frozen = {"manifest": canonical(manifest).decode(), "manifest_hash": manifest.hash}
        apply(study, StudyState.DRAFT, StudyState.APPROVING, facts={"manifest": manifest.hash}, **frozen)
        for site in manifest.sites:
            Approval.objects.create(study=study, site_id=site.id, manifest_hash=manifest.hash)
        # Before anybody is asked: sites approve only what stands in the log.
        append(
            "manifest",
            {
                "manifest": manifest.hash,
                "run": manifest.run,
                "study": study.pk,
                "witnesses": list(manifest.log.witnesses) if manifest.log else [],
            },
            [Attachment("manifest", canonical(manifest))],
        )
        record(by, "study.frozen", f"study:{study.pk}", manifest=manifest.hash)
    return manifest


def reopen(by: User, study: Study) -> None:
    """Back to the draft. The manifest is given up; approvals of its hash stay on record and count no more."""
    _require(permissions.can_edit(by, study))
    with transaction.atomic():
        give_up_manifest(by, study)


def give_up_manifest(by: Any, study: Study) -> None:
    """Back to the draft, because a hospital wishes for changes before it signs; who may wish so is judged
    by the caller (federation/threads).

    Raises: `study.wrong_state`.
    """
    state = _locked(study, StudyState.APPROVING, StudyState.READY)
    apply(study, state, StudyState.DRAFT, manifest=None, manifest_hash="")
    record(by, "study.reopened", f"study:{study.pk}")


def cancel(by: User, study: Study) -> None:
    """End a study that is not running (a running one ends with its run)."""
    _require(permissions.can_cancel(by, study))
    with transaction.atomic():
        state = _locked(study, StudyState.DRAFT, StudyState.APPROVING, StudyState.READY)
        apply(study, state, StudyState.CANCELLED)
        record(by, "study.cancelled", f"study:{study.pk}")


def approve_in_browser(by: User, study: Study, manifest_hash: str) -> Approval:
    """A site admin's word in the browser, for people: what counts is the signature made at the hospital.

    Raises: `auth.forbidden`, or `approval.stale_manifest` if this is not the manifest in force.
    """
    _require(permissions.can_approve(by, study))
    with transaction.atomic():
        approval = _open_approval(manifest_hash, by.site)
        if approval.study_id != study.pk:
            raise Refusal("approval.stale_manifest")
        if approval.browser_at is None:
            approval.browser_by, approval.browser_at = by, timezone.now()
            approval.save(update_fields=["browser_by", "browser_at"])
            record(by, "study.approved_in_browser", f"study:{study.pk}", manifest=manifest_hash)
    return approval


def sign_approval(agent: Any, manifest_hash: str, given: Given) -> Approval:
    """Take the site's signature over the manifest's hash. With the last one the study is ready to launch.

    The signature, of it alone or of the sweep that it is in, is checked by the approval key that the manifest
    lists, and goes into the log. The same one
    again changes nothing; one that confirms other members takes its place until the launch.

    Raises: `approval.stale_manifest`, `manifest.older_format`, `approval.online_key`,
    `approval.not_in_sweep`, `sealing.bad_signature` or `members.too_few`.
    """
    site: Site = agent.site
    with transaction.atomic():
        approval = _open_approval(manifest_hash, site)
        study = approval.study
        manifest = manifest_of(study)
        verify_approval(manifest, site.pk, given, "sealing.bad_signature")
        if approval.signature == given.signature:
            return approval
        _require_confirmed(manifest, site.pk, given)
        approval.confirmed, approval.signature = list(given.confirmed), given.signature
        approval.sweep = None if given.sweep is None else msgspec.to_builtins(given.sweep)
        approval.signed_at = timezone.now()
        approval.save(update_fields=["confirmed", "signature", "sweep", "signed_at"])
        body = ApprovalBody(manifest_hash, site.pk, given.confirmed, given.signature, given.sweep)
        append(APPROVAL, body, [Attachment("manifest", canonical(manifest))])
        record(agent, "study.approval_signed", f"study:{study.pk}", manifest=manifest_hash)
        Event.objects.create(study=study, site=site, kind="approval.signed")
        all_signed = not study.approvals.filter(manifest_hash=manifest_hash, signature=None).exists()
        if all_signed and study.state == StudyState.APPROVING:
            apply(study, StudyState.APPROVING, StudyState.READY)
    return approval


def take_off(by: User, study: Study) -> Manifest:
    """A study that every site signed for runs from now on, by the manifest returned. The run itself is
    made in the same transaction (enclave_jobs/runs/services.py).

    Everything that was approved is looked at again: signatures, sites, keys, datasets, reference values.

    Raises: `auth.forbidden`, `study.wrong_state`, `manifest.older_format`, `study.not_approved`,
    `study.too_few_holders` or `study.stale_manifest`.
    """
    _require(permissions.can_edit(by, study))
    _locked(study, StudyState.READY)
    manifest = manifest_of(study)
    _check_approvals(study, manifest)
    _check_still_true(study, manifest)
    apply(study, StudyState.READY, StudyState.RUNNING)
    return manifest


def _check_approvals(study: Study, manifest: Manifest) -> None:
    given = queries.given_to(study, manifest.hash)
    for site in manifest.sites:
        if site.id not in given:
            raise Refusal("study.not_approved", site=site.name)
        verify_approval(manifest, site.id, given[site.id], "sealing.bad_signature")
        _require_confirmed(manifest, site.id, given[site.id])
    shares = None if manifest.split is None else manifest.split.shares
    found = len(known_to_all(given))
    if shares is not None and found < shares.threshold:
        raise Refusal("study.too_few_holders", found=found, needed=shares.threshold)


def _require_confirmed(manifest: Manifest, site: str, given: Given) -> None:
    """A site that knows fewer members than a minimum of the run asks for would let none of them be met."""
    found, needed = len({site, *given.confirmed}), least_confirmed(manifest)
    if found < needed:
        raise Refusal("members.too_few", found=found, needed=needed)


def _check_still_true(study: Study, manifest: Manifest) -> None:
    rows = {row.pk: row for row in Site.objects.filter(pk__in=[site.id for site in manifest.sites])}
    for site in manifest.sites:
        row = rows.get(site.id)
        keys = site.public_key, site.approval_key
        if row is None or row.state != SiteState.ACTIVE or (row.public_key, row.approval_key) != keys:
            raise Refusal("study.stale_manifest", fault=f"site {site.name} is not active with the same keys")
    if study.datasets.filter(withdrawn_at__isnull=False).exists():
        raise Refusal("study.stale_manifest", fault="a dataset was withdrawn")
    if not still_in_force(manifest.policy):
        raise Refusal("study.stale_manifest", fault="a reference value was suspended")


def _open_approval(manifest_hash: str, site: Site | None) -> Approval:
    """The site's approval of the manifest that is in force and not launched yet, its study locked."""
    study = (
        Study.objects.select_for_update()
        .filter(manifest_hash=manifest_hash, state__in=(StudyState.APPROVING, StudyState.READY))
        .first()
    )
    if not manifest_hash or study is None:
        raise Refusal("approval.stale_manifest")
    approval = study.approvals.filter(manifest_hash=manifest_hash, site=site).first()
    if approval is None:
        raise Refusal("approval.stale_manifest")
    approval.study = study
    return approval


def _locked(study: Study, *allowed: StudyState) -> StudyState:
    """Lock the study's row, read it again.

    Raises: `study.wrong_state` if its state is not `allowed`.
    """
    fresh = Study.objects.select_for_update().get(pk=study.pk)
    for field in ("state", "manifest", "manifest_hash", "settings", "name", "purpose"):
        setattr(study, field, getattr(fresh, field))
    if study.state not in allowed:
        raise Refusal("study.wrong_state", state=study.state)
    return StudyState(study.state)


def _require(allowed: bool) -> None:
    if not allowed:
        raise Refusal("auth.forbidden")
