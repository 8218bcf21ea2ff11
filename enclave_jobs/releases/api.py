"""Agents' API: releases, and models to be served, that ask for this site's signature or have it; and the
signature."""

from __future__ import annotations

import msgspec
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from contracts.agents_api.endpoint import NOT_GIVEN
from contracts.agents_api.releases import APPROVE_RELEASE, RELEASES, ReleaseItem
from contracts.evidence import Evidence
from contracts.refusal import Refusal
from contracts.releases import SERVE
from enclave_jobs.releases import queries, services
from enclave_jobs.releases.models import Release
from enclave_jobs.runs.models import Run
from enclave_jobs.serving import queries as serving
from enclave_jobs.serving import services as serving_services
from enclave_jobs.serving.models import Service
from federation.frozen import frozen
from federation.sites.agent_view import AgentView, agent
from federation.wire import answer, document, read


class Releases(AgentView):
    """Releases of runs that this site is a member of."""

    max_body = 80 * 1024

    @extend_schema(operation_id="releases", **document(RELEASES))
    def get(self, request: Request) -> HttpResponse:
        """List them, newest first."""
        site = agent(request).site
        released = [_item(release, site.pk) for release in queries.asked_of(site)]
        served = [_served(service, site.pk) for service in serving.asked_of(site)]
        return answer(RELEASES, [*released, *served])

    @extend_schema(operation_id="release_order", **document(APPROVE_RELEASE))
    def post(self, request: Request) -> HttpResponse:
        """Approve the release by the site's signature."""
        body, principal = read(request, APPROVE_RELEASE), agent(request)
        if body.rule == SERVE:
            service = serving.asked_of(principal.site).filter(run_id=body.run).first()
            if service is None:
                raise Refusal("serving.not_asked")
            approved = serving_services.approve(principal, service.run, body.receipt, body.approval)
            return answer(APPROVE_RELEASE, _served(approved, principal.site.pk))
        release = queries.asked_of(principal.site).filter(run_id=body.run).first()
        if release is None:
            raise Refusal("release.not_asked")
        if body.rule != release.rule:
            raise Refusal("release.not_allowed", rule=release.rule)
        services.approve(principal, release.run, body.receipt, body.approval)
        release.refresh_from_db()
        return answer(APPROVE_RELEASE, _item(release, principal.site.pk))


def _item(release: Release, site: str) -> ReleaseItem:
    signed = list(release.signatures.values_list("site_id", flat=True))
    evidence = release.evidence
    return ReleaseItem(
        run=release.run_id,
        study=release.run.study.name,
        manifest_hash=release.run.manifest_hash,
        rule=release.rule,
        state=release.state,
        receipt=_last_receipt(release.run),
        found=queries.found(release),
        needed=frozen(release.run).at("release", "approvals") or 0,
        signed=site in signed,
        kept=release.removed_at is None,
        statement=NOT_GIVEN if release.statement is None else _as_it_stands(release.statement),
        evidence=None if evidence is None else msgspec.convert(evidence, Evidence),
    )


def _served(service: Service, site: str) -> ReleaseItem:
    return ReleaseItem(
        run=service.run_id,
        study=service.run.study.name,
        manifest_hash=service.run.manifest_hash,
        rule=SERVE,
        state=service.state,
        receipt=_last_receipt(service.run),
        found=serving.found(service),
        needed=frozen(service.run).at("release", "approvals") or 0,
        signed=service.signatures.filter(site_id=site).exists(),
        kept=False,
        statement=NOT_GIVEN,
        evidence=None,
    )


def _last_receipt(run: Run) -> msgspec.Raw:
    last = queries.last_round(run)
    return _as_it_stands((last.receipt if last is not None else None) or {})


def _as_it_stands(stored: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(stored))
