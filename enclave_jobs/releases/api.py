"""Agents' API: releases, and models to be served, that ask for this site's signature or have it; and the
signature."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from msgspec import Struct
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.refusal import Refusal
from contracts.releases import SERVE, ApprovedRule, ReleaseApproval
from enclave_jobs.releases import queries, services
from enclave_jobs.releases.models import Release
from enclave_jobs.serving import queries as serving
from enclave_jobs.serving import services as serving_services
from enclave_jobs.serving.models import Service
from federation.studies.frozen import frozen
from federation.wire import AgentView, agent, document, read


class ReleaseItem(Struct):
    """`rule` is `serve-only` where the model is to be served. `receipt` is the signed receipt whose
    parameters are asked for; `statement` and `evidence` are there once the enclave has released them. `found`
    of the `needed` approvals that count are there; `signed` says whether this one has."""

    run: str
    study: str
    manifest_hash: str
    rule: str
    state: str
    receipt: dict[str, Any]
    found: int
    needed: int
    signed: bool
    kept: bool
    statement: dict[str, Any] | None
    evidence: dict[str, Any] | None


class ReleaseApprovalBody(Struct, forbid_unknown_fields=True):
    """The site's approval (contracts/releases.py) for the parameters after the receipt with this hash."""

    run: Identifier
    rule: ApprovedRule
    receipt: Hex32
    approval: ReleaseApproval


class Releases(AgentView):
    """Releases of runs that this site is a member of."""

    max_body = 80 * 1024

    @extend_schema(operation_id="releases", **document(None, list[ReleaseItem]))
    def get(self, request: Request) -> Response:
        """List them, newest first."""
        site = agent(request).site
        released = [_item(release, site.pk) for release in queries.asked_of(site)]
        return Response([*released, *(_served(service, site.pk) for service in serving.asked_of(site))])

    @extend_schema(operation_id="release_order", **document(ReleaseApprovalBody, ReleaseItem))
    def post(self, request: Request) -> Response:
        """Approve the release by the site's signature."""
        body, principal = read(request, ReleaseApprovalBody), agent(request)
        if body.rule == SERVE:
            service = serving.asked_of(principal.site).filter(run_id=body.run).first()
            if service is None:
                raise Refusal("serving.not_asked")
            approved = serving_services.approve(principal, service.run, body.receipt, body.approval)
            return Response(_served(approved, principal.site.pk))
        release = queries.asked_of(principal.site).filter(run_id=body.run).first()
        if release is None:
            raise Refusal("release.not_asked")
        if body.rule != release.rule:
            raise Refusal("release.not_allowed", rule=release.rule)
        services.approve(principal, release.run, body.receipt, body.approval)
        release.refresh_from_db()
        return Response(_item(release, principal.site.pk))


def _item(release: Release, site: str) -> dict[str, object]:
    last = queries.last_round(release.run)
    signed = list(release.signatures.values_list("site_id", flat=True))
    return {
        "run": release.run_id,
        "study": release.run.study.name,
        "manifest_hash": release.run.manifest_hash,
        "rule": release.rule,
        "state": release.state,
        "receipt": (last.receipt if last is not None else None) or {},
        "found": queries.found(release),
        "needed": frozen(release.run).at("release", "approvals") or 0,
        "signed": site in signed,
        "kept": release.removed_at is None,
        "statement": release.statement,
        "evidence": release.evidence,
    }


def _served(service: Service, site: str) -> dict[str, object]:
    last = queries.last_round(service.run)
    return {
        "run": service.run_id,
        "study": service.run.study.name,
        "manifest_hash": service.run.manifest_hash,
        "rule": SERVE,
        "state": service.state,
        "receipt": (last.receipt if last is not None else None) or {},
        "found": serving.found(service),
        "needed": frozen(service.run).at("release", "approvals") or 0,
        "signed": service.signatures.filter(site_id=site).exists(),
        "kept": False,
        "statement": None,
        "evidence": None,
    }
