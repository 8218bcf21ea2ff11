"""What waits for the site's approval, and the signature that is the approval."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from contracts.agents_api.studies import APPROVALS, APPROVE, ApprovalItem, SweepItem
from contracts.approvals import Approval as Given
from federation.sites.agent_view import AgentView, agent
from federation.studies import queries, services
from federation.studies.models import Approval, Study, Sweep
from federation.threads.queries import decline_of
from federation.wire import answer, document, read


class Approvals(AgentView):
    """The manifests that ask for this site's approval."""

    max_body = 80 * 1024

    @extend_schema(**document(APPROVALS))
    def get(self, request: Request) -> HttpResponse:
        """List the manifests in force."""
        return answer(APPROVALS, [_item(row) for row in queries.approvals_for_agent(agent(request).site)])

    @extend_schema(**document(APPROVE))
    def post(self, request: Request) -> HttpResponse:
        """Approve a manifest by the site's signature."""
        body = read(request, APPROVE)
        given = Given(body.confirmed, body.signature, body.sweep)
        return answer(APPROVE, _item(services.sign_approval(agent(request), body.manifest_hash, given)))


def _item(row: Approval) -> ApprovalItem:
    return ApprovalItem(
        study=row.study.pk,
        name=row.study.name,
        manifest_hash=row.manifest_hash,
        manifest=row.study.manifest or "",
        state="waiting" if row.signature is None else "signed",
        browser=row.browser_at is not None,
        declined=row.signature is None and decline_of(row.study, row.site) is not None,
        sweep=_sweep(row.study),
    )


def _sweep(study: Study) -> SweepItem | None:
    point = getattr(study, "sweep_point", None)
    if point is None:
        return None
    sweep: Sweep = point.sweep
    return SweepItem(sweep.pk, sweep.name, sweep.points.count(), sweep.releases)
