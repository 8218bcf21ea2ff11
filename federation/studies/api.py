"""What waits for the site's approval, and the signature that is the approval."""

from __future__ import annotations

from typing import Annotated, Literal

from drf_spectacular.utils import extend_schema
from msgspec import Meta, Struct
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.approvals import Approval as Given
from contracts.approvals import InSweep
from contracts.manifest import Identifier
from contracts.policy import Hex32
from federation.studies import queries, services
from federation.studies.models import Approval, Study, Sweep
from federation.threads.queries import decline_of
from federation.wire import AgentView, agent, document, read


class SweepItem(Struct):
    """The sweep that a manifest is a point of: `points` in all, of which at most so many `releases`."""

    id: str
    name: str
    points: int
    releases: int


class ApprovalItem(Struct):
    """`manifest` is the canonical JSON as text; check its SHA-256 yourself. `browser` says whether the site
    admin said yes in the browser, which counts for nothing here, `declined` whether the hospital has declined
    it and not changed its mind."""

    study: str
    name: str
    manifest_hash: str
    manifest: str
    state: Literal["waiting", "signed"]
    browser: bool
    declined: bool
    sweep: SweepItem | None = None


class SignatureBody(Struct, forbid_unknown_fields=True):
    """The Ed25519 signature (hex) by the site's approval key over `approval_payload`, which names the members
    whose keys the site has compared; with `sweep`, over `sweep_payload`."""

    manifest_hash: Hex32
    confirmed: Annotated[tuple[Identifier, ...], Meta(max_length=1000)]
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]
    sweep: InSweep | None = None


class Approvals(AgentView):
    """The manifests that ask for this site's approval."""

    max_body = 80 * 1024

    @extend_schema(**document(None, list[ApprovalItem]))
    def get(self, request: Request) -> Response:
        """List the manifests in force."""
        return Response([_item(row) for row in queries.approvals_for_agent(agent(request).site)])

    @extend_schema(**document(SignatureBody, ApprovalItem))
    def post(self, request: Request) -> Response:
        """Approve a manifest by the site's signature."""
        body = read(request, SignatureBody)
        given = Given(body.confirmed, body.signature, body.sweep)
        return Response(_item(services.sign_approval(agent(request), body.manifest_hash, given)))


def _item(row: Approval) -> dict[str, object]:
    return {
        "study": row.study.pk,
        "name": row.study.name,
        "manifest_hash": row.manifest_hash,
        "manifest": row.study.manifest,
        "state": "waiting" if row.signature is None else "signed",
        "browser": row.browser_at is not None,
        "declined": row.signature is None and decline_of(row.study, row.site) is not None,
        "sweep": _sweep(row.study),
    }


def _sweep(study: Study) -> dict[str, object] | None:
    point = getattr(study, "sweep_point", None)
    if point is None:
        return None
    sweep: Sweep = point.sweep
    return {"id": sweep.pk, "name": sweep.name, "points": sweep.points.count(), "releases": sweep.releases}
