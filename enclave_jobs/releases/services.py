"""Releases' verbs: the lead asks, sites approve, the conductor reports, the lead fetches an export."""

from __future__ import annotations

from typing import IO, Any

import msgspec
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from contracts.canonical import canonical
from contracts.manifest import Manifest
from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from contracts.refusal import Refusal
from contracts.releases import (
    EXPORT,
    SEALED,
    ReleaseApproval,
    SignedRelease,
    require_number,
    rule_of,
    verify_release_approval,
)
from enclave_jobs import dispatch
from enclave_jobs.blobs import store as blobs
from enclave_jobs.releases import queries
from enclave_jobs.releases.models import Release, ReleaseSignature, ReleaseState
from enclave_jobs.runs.models import Run, RunState
from enclave_jobs.runs.queries import approvals_given
from federation.attestation.log import Attachment, append
from federation.audit.services import record
from federation.frozen import manifest_of
from federation.people.models import User
from federation.sites.models import Site
from federation.studies import permissions
from federation.studies.events import note
from federation.transitions import Pairs, move
from transparency_log.entry import RELEASE, ReleaseBody

STATES: Pairs = frozenset(
    {
        ("waiting", "releasing"),
        ("releasing", "released"),
        ("releasing", "failed"),
        (
            "released",
            "releasing",
        ),  # another site has signed and gets its copy, or the file is asked for again
        ("failed", "releasing"),
    }
)


def require_releasable(run: Run) -> Manifest:
    """Whether this run's parameters may ever be released.

    Raises: `release.not_allowed` or `release.unfinished`.
    """
    manifest = manifest_of(run)
    rule_of(manifest)
    if run.state != RunState.FINISHED:
        raise Refusal("release.unfinished")
    return manifest


def ask(by: User, run: Run) -> Release:
    """Ask the sites for their signatures. It cannot be undone: what they sign counts. Asked again, a release
    that failed, or whose file is gone, is tried again with the approvals that are there.

    Raises: `auth.forbidden`, `release.asked`, or as `require_releasable`.
    """
    _require(permissions.can_edit(by, run.study))
    manifest = require_releasable(run)
    last = queries.last_round(run)
    if last is None:
        raise Refusal("release.unfinished")
    receipt = receipt_hash(parse_receipt(last.receipt or {}).receipt)
    with transaction.atomic():
        release, fresh = Release.objects.select_for_update().get_or_create(
            run=run, defaults={"rule": manifest.release.rule, "receipt": receipt, "asked_by": by}
        )
        if not fresh and release.state != ReleaseState.FAILED and release.removed_at is None:
            raise Refusal("release.asked")
        record(by, "release.asked", f"run:{run.pk}", rule=release.rule, receipt=receipt)
        note(run, "release.asked", rule=release.rule)
        if not fresh:
            _go(release)
    return release


def approve(agent: Any, run: Run, receipt: str, approval: ReleaseApproval) -> Release:
    """Take a site's signature. With enough of them the enclave is asked; a later one gets a copy of its own
    where parameters are sealed to sites. The same one again changes nothing.

    Raises: `release.not_asked`, `release.wrong_receipt`, `release.bad_approval`, `release.beyond_sweep` or
    `members.too_few`.
    """
    site: Site = agent.site
    manifest = manifest_of(run)
    with transaction.atomic():
        release = Release.objects.select_for_update().filter(run=run).first()
        if release is None:
            raise Refusal("release.not_asked")
        if receipt != release.receipt:
            raise Refusal("release.wrong_receipt")
        verify_release_approval(manifest, receipt, site.pk, approval)
        require_number(site.pk, approval.number, approvals_given(run).get(site.pk), release.rule)
        _require_confirmed(manifest, site.pk, approval)
        fields = {
            "hpke_key": approval.hpke_key or "",
            "confirmed": list(approval.confirmed),
            "signature": approval.signature,
            "number": approval.number,
        }
        known = release.signatures.filter(site=site).first()
        if known is not None and known.signature == approval.signature:
            return release
        ReleaseSignature.objects.update_or_create(release=release, site=site, defaults=fields)
        record(agent, "release.approved", f"run:{run.pk}", rule=release.rule, receipt=receipt)
        note(run, "release.approved", site=site)
        enough = queries.found(release) >= manifest.release.approvals
        late = release.state == ReleaseState.RELEASED and release.rule == SEALED
        if enough and (release.state == ReleaseState.WAITING or late):
            _go(release)
    return release


def _require_confirmed(manifest: Manifest, site: str, approval: ReleaseApproval) -> None:
    """Where a site knows too few members its approval can never count, and lets no other count either."""
    found, needed = len({site, *approval.confirmed}), manifest.release.approvals
    if found < needed:
        raise Refusal("members.too_few", found=found, needed=needed)


def attested(release: Release, evidence: dict[str, Any]) -> None:
    """Keep the evidence of the enclave that is to release: sites judge it by themselves."""
    Release.objects.filter(pk=release.pk).update(evidence=evidence)


def released(release: Release, signed: SignedRelease, approval: dict[str, ReleaseApproval]) -> bool:
    """The enclave has let the parameters out: into the log, then for those whom they are for. False if
    another worker was faster; call it in a transaction."""
    said = signed.released
    fields = {
        "statement": msgspec.to_builtins(signed),
        "output": said.output,
        "bytes": said.bytes,
        "released_at": timezone.now(),
        "removed_at": None,
        "error_code": "",
    }
    with transaction.atomic():
        if not move(release, STATES, ReleaseState.RELEASING, ReleaseState.RELEASED, **fields):
            return False
        manifest = Attachment("manifest", canonical(manifest_of(release.run)))
        append(RELEASE, ReleaseBody(signed, approval), [manifest])
        facts = {"rule": said.rule, "sha256": said.output, "package": said.package}
        record(
            None,
            "release.released",
            f"run:{release.run_id}",
            **facts,
            sites=", ".join(said.approved_by),
        )
        note(release.run, "release.released", rule=said.rule)
        if release.signatures.count() > len(approval):  # somebody has signed meanwhile
            _go(release)
    return True


def fail(release: Release, code: str) -> None:
    """It cannot be released; the code says why."""
    with transaction.atomic():
        if move(release, STATES, ReleaseState.RELEASING, ReleaseState.FAILED, error_code=code):
            note(release.run, "release.failed", code=code)


def exported(by: User, run: Run) -> tuple[Release, IO[bytes]]:
    """The exported package, opened, for the study's lead alone. Each time is in the audit trail.

    Raises: `auth.forbidden`, `release.not_asked`, `release.not_allowed`, `release.waiting` or
    `release.gone`.
    """
    _require(permissions.can_edit(by, run.study))
    release = Release.objects.filter(run=run).first()
    if release is None:
        raise Refusal("release.not_asked")
    if release.rule != EXPORT:
        raise Refusal("release.not_allowed", rule=release.rule)
    if release.state != ReleaseState.RELEASED:
        needed = manifest_of(run).release.approvals
        raise Refusal("release.waiting", found=queries.found(release), needed=needed)
    try:
        if release.removed_at is not None:
            raise FileNotFoundError
        file = blobs.opened(release.output)
    except FileNotFoundError as error:
        raise Refusal("release.gone", days=settings.RELEASE_DAYS) from error
    record(by, "release.downloaded", f"run:{run.pk}", sha256=release.output)
    return release, file


def _go(release: Release) -> None:
    """Let the conductor ask the enclave."""
    move(release, STATES, release.state, ReleaseState.RELEASING, losses=0, error_code="")
    dispatch.after_commit(dispatch.RELEASE, release.run_id)


def _require(allowed: bool) -> None:
    if not allowed:
        raise Refusal("auth.forbidden")
