"""What an agent says about itself: it enrols, and it is alive."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from msgspec import to_builtins
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from contracts.agents_api.sites import (
    APPROVAL_KEY,
    ENROL,
    HEARTBEAT,
    MACHINE,
    MOVE,
    EnrolAnswer,
    HeartbeatAnswer,
    MachineAnswer,
    ReplaceAnswer,
)
from federation.clients import client_of
from federation.sites import instances, services
from federation.sites.agent_view import AgentView, agent
from federation.sites.authentication import AgentPrincipal
from federation.sites.models import AgentInstance
from federation.wire import answer, document, read


class Enrol(AgentView):
    """Use a one-time enrolment token: register the agent's public key."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    max_body = 16 * 1024

    @extend_schema(auth=[], **document(ENROL))
    def post(self, request: Request) -> HttpResponse:
        body = read(request, ENROL)
        enrolled = services.enrol(
            body.token,
            public_key=body.public_key,
            approval_key=body.approval_key,
            development_key=body.development_key,
            agent_version=body.agent_version,
            runtime=body.runtime,
            platform_key_pem=body.platform_key_pem,
        )
        site = enrolled.site
        return answer(ENROL, EnrolAnswer(site.pk, site.name, settings.PUBLIC_URL, enrolled.pck_chain))


class ApprovalKey(AgentView):
    """Give the site another approval key, by a one-time token that its admin got in the browser."""

    max_body = 16 * 1024

    @extend_schema(**document(APPROVAL_KEY))
    def post(self, request: Request) -> HttpResponse:
        body = read(request, APPROVAL_KEY)
        site = services.replace_approval_key(
            agent(request),
            body.token,
            approval_key=body.approval_key,
            development_key=body.development_key,
        )
        return answer(APPROVAL_KEY, ReplaceAnswer(site.approval_key))


class Heartbeat(AgentView):
    """The agent is alive; its first heartbeat makes the site active."""

    @extend_schema(**document(HEARTBEAT))
    def post(self, request: Request) -> HttpResponse:
        body = read(request, HEARTBEAT)
        checks = [to_builtins(check) for check in body.checks]
        site = services.heartbeat(agent(request), agent_version=body.agent_version, checks=checks)
        if body.leaving:
            instances.leaves(agent(request))
        now = int(timezone.now().timestamp())
        return answer(HEARTBEAT, HeartbeatAnswer(now, site.state, site.check_wanted))


class Machine(AgentView):
    """Which machine is the site's, for whoever has the site's key; and the move to the one that asks."""

    for_any_machine = True

    @extend_schema(operation_id="machine", **document(MACHINE))
    def get(self, request: Request) -> HttpResponse:
        held = AgentInstance.objects.filter(site=agent(request).site).first()
        return answer(MACHINE, _machine(held, agent(request)))

    @extend_schema(operation_id="machine_move", **document(MOVE))
    def post(self, request: Request) -> HttpResponse:
        read(request, MOVE)
        moved = instances.move(agent(request), client_of(request))
        return answer(MOVE, _machine(moved, agent(request)))


def _machine(held: AgentInstance | None, asks: AgentPrincipal) -> MachineAnswer:
    if held is None:
        return MachineAnswer(here=False, machine=None, address=None, since=None, heard=None)
    return MachineAnswer(
        here=held.place == asks.instance.place,
        machine=held.machine,
        address=held.address,
        since=int(held.since.timestamp()),
        heard=int(held.heard_at.timestamp()) if held.heard_at else None,
    )
