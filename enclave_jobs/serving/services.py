"""Serving's verbs: its lead's (start, stop, revoke, allow), the sites' approvals, the conductor's, and the
relay's counting. The enclave that serves counts the approvals itself."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from contracts.canonical import canonical
from contracts.manifest import Manifest
from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from contracts.refusal import Fact, Refusal
from contracts.releases import SERVE, ReleaseApproval, allowed, require_number, verify_release_approval
from enclave_jobs import dispatch
from enclave_jobs.releases.queries import last_round
from enclave_jobs.runs.models import Run, RunState
from enclave_jobs.serving import queries
from enclave_jobs.serving.models import Service, ServiceState, ServingSignature, Use
from federation.attestation.log import Attachment, append
from federation.audit.services import record
from federation.frozen import manifest_of
from federation.people.models import User
from federation.sites.models import Site
from federation.studies import methods, permissions
from federation.studies.events import note
from federation.transitions import Pairs, move
from transparency_log.entry import SERVING, ServingBody

SERVICE: Pairs = frozenset(
    {
        ("off", "waiting"),
        ("failed", "waiting"),
        ("waiting", "starting"),  # enough sites have signed
        ("waiting", "off"),
        ("starting", "serving"),
        ("serving", "starting"),  # its enclave was lost
        ("starting", "off"),
        ("serving", "off"),
        ("failed", "off"),
        ("starting", "failed"),
        ("serving", "failed"),
    }
)


def require_servable(run: Run) -> Manifest:
    """Whether this run's model may ever be served.

    Raises: `serving.not_method_2`, `serving.not_allowed` or `serving.unfinished`.
    """
    manifest = manifest_of(run)
    if not methods.named(manifest.method).serves:
        raise Refusal("serving.not_method_2", method=manifest.method)
    if manifest.model.task == "token-classification":
        raise Refusal("study.tags_not_served")
    allowed(manifest, SERVE)
    if run.state != RunState.FINISHED:
        raise Refusal("serving.unfinished", state=run.state)
    return manifest


def start(by: User, run: Run) -> Service:
    """Ask the sites to sign that the run's model is served; it is, once enough have. What they have signed
    before counts: it names these parameters.

    Raises: `auth.forbidden`, `run.wrong_state`, or as `require_servable`.
    """
    _require(permissions.can_edit(by, run.study))
    manifest, last = require_servable(run), last_round(run)
    if last is None:
        raise Refusal("serving.unfinished", state=run.state)
    receipt = receipt_hash(parse_receipt(last.receipt or {}).receipt)
    with transaction.atomic():
        service, _ = Service.objects.select_for_update().get_or_create(run=run)
        if service.state not in (ServiceState.OFF, ServiceState.FAILED):
            raise Refusal("run.wrong_state", state=service.state)
        _move(service, service.state, ServiceState.WAITING, by, losses=0, receipt=receipt, error_code="")
        _go_if_signed(service, manifest)
        for site in manifest.sites:
            Use.objects.get_or_create(service=service, site_id=site.id)
    return service


def approve(agent: Any, run: Run, receipt: str, approval: ReleaseApproval) -> Service:
    """Take a site's signature for serving. With enough of them the enclave is started. The same one again
    changes nothing.

    Raises: `serving.not_asked`, `release.wrong_receipt`, `members.too_few`, or as `verify_release_approval`.
    """
    site: Site = agent.site
    manifest = manifest_of(run)
    with transaction.atomic():
        service = Service.objects.select_for_update().filter(run=run).first()
        if service is None or service.state == ServiceState.OFF:
            raise Refusal("serving.not_asked")
        if receipt != service.receipt:
            raise Refusal("release.wrong_receipt")
        verify_release_approval(manifest, receipt, site.pk, approval, SERVE)
        require_number(site.pk, approval.number, None, SERVE)
        found, needed = len({site.pk, *approval.confirmed}), manifest.release.approvals
        if found < needed:
            raise Refusal("members.too_few", found=found, needed=needed)
        known = service.signatures.filter(site=site).first()
        if known is not None and known.signature == approval.signature:
            return service
        fields = {"confirmed": list(approval.confirmed), "signature": approval.signature}
        ServingSignature.objects.update_or_create(service=service, site=site, defaults=fields)
        record(agent, "serving.approved", f"run:{run.pk}", receipt=receipt)
        note(run, "serving.approved", site=site)
        if service.state == ServiceState.WAITING:
            _go_if_signed(service, manifest)
    return service


def _go_if_signed(service: Service, manifest: Manifest) -> None:
    """Into the log, and let the conductor start the enclave, once enough approvals count."""
    if queries.found(service) < manifest.release.approvals:
        return
    body = ServingBody(manifest.hash, service.receipt, queries.release_approvals(service))
    append(SERVING, body, [Attachment("manifest", canonical(manifest))])
    _step(service, ServiceState.WAITING, ServiceState.STARTING, {}, enclave="")
    dispatch.after_commit(dispatch.SERVE, service.run_id)


def stop(by: User, run: Run) -> None:
    """Serve it no more: its enclave ends.

    Raises: `auth.forbidden` or `serving.off`.
    """
    _require(permissions.can_cancel(by, run.study))
    with transaction.atomic():
        service = _locked(run)
        if service.state == ServiceState.OFF:
            raise Refusal("serving.off")
        _move(service, service.state, ServiceState.OFF, by, enclave="")


def revoke(by: User, run: Run, site: Site, why: str = "") -> None:
    """No more answers for this site; its sessions end.

    Raises: `auth.forbidden` or `serving.off`.
    """
    _set_revoked(by, run, site, why, revoked=True)


def allow(by: User, run: Run, site: Site) -> None:
    """Answer this site again.

    Raises: `auth.forbidden` or `serving.off`.
    """
    _set_revoked(by, run, site, "", revoked=False)


def _set_revoked(by: User, run: Run, site: Site, why: str, *, revoked: bool) -> None:
    _require(permissions.can_edit(by, run.study))
    word = "revoked" if revoked else "allowed"
    with transaction.atomic():
        changes: dict[str, Any] = {"revoked_at": timezone.now() if revoked else None, "why": why[:500]}
        if not Use.objects.filter(service__run=run, site=site).update(**changes):
            raise Refusal("serving.off")
        note(run, f"serving.{word}", site=site, why=why[:500])
        record(by, f"serving.{word}", f"run:{run.pk}", site=site.pk, why=why[:500])
        dispatch.after_commit(dispatch.SERVE, run.pk)


def ready(service: Service, enclave: str) -> bool:
    """The enclave holds the tail and was attested. False if serving was stopped meanwhile."""
    facts: dict[str, Fact] = {"enclave": enclave}
    return _step(service, ServiceState.STARTING, ServiceState.SERVING, facts, enclave=enclave)


def lost(service: Service, code: str) -> bool:
    """The enclave died: another is to be started. False if somebody was faster."""
    changes = {"enclave": "", "losses": F("losses") + 1}
    return _step(service, ServiceState.SERVING, ServiceState.STARTING, {"code": code}, **changes)


def fail(service: Service, code: str) -> bool:
    """It cannot be started; the code says why."""
    return _step(service, service.state, ServiceState.FAILED, {"code": code}, error_code=code, enclave="")


def require_use(run: Run, site: Site) -> Use:
    """That this site may ask now, and its pace.

    Raises: `serving.off`, `serving.waiting`, `serving.starting`, `serving.failed`, `serving.revoked` or
    `serving.too_fast`.
    """
    use = Use.objects.filter(service__run=run, site=site).select_related("service").first()
    if use is None or use.service.state == ServiceState.OFF:
        raise Refusal("serving.off")
    if use.revoked_at is not None:
        raise Refusal("serving.revoked")
    if use.service.state == ServiceState.FAILED:
        raise Refusal("serving.failed", why=use.service.error_code)
    if use.service.state == ServiceState.WAITING:
        needed = manifest_of(run).release.approvals
        raise Refusal("serving.waiting", found=queries.found(use.service), needed=needed)
    if use.service.state == ServiceState.STARTING:
        raise Refusal("serving.starting")
    limit, minute = settings.SERVING_REQUESTS_A_MINUTE, int(time.time()) // 60
    row = Use.objects.filter(pk=use.pk)
    if row.exclude(minute=minute).update(minute=minute, in_minute=1):
        return use
    if not row.filter(in_minute__lt=limit).update(in_minute=F("in_minute") + 1):
        raise Refusal("serving.too_fast", limit=limit)
    return use


def count(use: Use, *, sessions: int = 0, bytes: int = 0, texts: int = 0, tokens: int = 0) -> None:
    """Add one request's counts to what the site has used."""
    Use.objects.filter(pk=use.pk).update(
        sessions=F("sessions") + sessions,
        requests=F("requests") + 1,
        bytes=F("bytes") + bytes,
        texts=F("texts") + texts,
        tokens=F("tokens") + tokens,
        last_at=timezone.now(),
    )


def _move(service: Service, source: str, target: str, by: User, **changes: Any) -> None:
    if not _step(service, source, target, {}, **changes):
        raise Refusal("run.wrong_state", state=service.state)
    record(by, f"serving.{target}", f"run:{service.run_id}")
    dispatch.after_commit(dispatch.SERVE, service.run_id)


def _step(service: Service, source: str, target: str, facts: dict[str, Fact], **changes: Any) -> bool:
    with transaction.atomic():
        if not move(service, SERVICE, source, target, **changes, changed_at=timezone.now()):
            return False
        note(service.run, f"serving.{target}", **facts)
    return True


def _locked(run: Run) -> Service:
    service = Service.objects.select_for_update().filter(run=run).first()
    if service is None:
        raise Refusal("serving.off")
    return service


def _require(allowed: bool) -> None:
    if not allowed:
        raise Refusal("auth.forbidden")
