"""What an agent says about itself: it enrols, and it is alive."""

from __future__ import annotations

from typing import Annotated, Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from msgspec import Meta, Struct, to_builtins
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.program_calls import Nothing
from federation.people.clients import client_of
from federation.sites import instances, services
from federation.sites.authentication import AgentPrincipal
from federation.sites.models import AgentInstance
from federation.wire import AgentView, agent, document, read

Short = Annotated[str, Meta(min_length=1, max_length=64)]


class EnrolBody(Struct, forbid_unknown_fields=True):
    """`public_key` is the agent's Ed25519 key in hex, `approval_key` the one that needs a person unless it is
    a `development_key`; `platform_key_pem` the platform's PKCS#10 request."""

    token: Annotated[str, Meta(min_length=1, max_length=200)]
    public_key: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    approval_key: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    agent_version: Short
    runtime: Short
    development_key: bool = False
    platform_key_pem: Annotated[str, Meta(max_length=8192)] | None = None


class ReplaceBody(Struct, forbid_unknown_fields=True):
    """`approval_key` is the new Ed25519 key in hex."""

    token: Annotated[str, Meta(min_length=1, max_length=200)]
    approval_key: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    development_key: bool = False


class ReplaceAnswer(Struct):
    """The site's approval key now."""

    approval_key: str


class EnrolAnswer(Struct):
    """`pck_chain` (PEM) certifies a development platform; hardware has its own."""

    site: str
    name: str
    coordinator: str
    pck_chain: str | None


class CheckResult(Struct, forbid_unknown_fields=True):
    """One connection check of the agent, in words for the site admin. `letter` is a text that they can send
    to whoever looks after the network."""

    name: Short
    outcome: Annotated[str, Meta(pattern=r"^(pass|warn|fail)\Z")]
    found: Annotated[str, Meta(max_length=500)] = ""
    hint: Annotated[str, Meta(max_length=1000)] = ""
    letter: Annotated[str, Meta(max_length=2000)] = ""


class HeartbeatBody(Struct, forbid_unknown_fields=True):
    """An empty list of checks says that none were made since the last heartbeat. `leaving` says that the
    agent ends."""

    agent_version: Short
    runtime: Short
    checks: Annotated[list[CheckResult], Meta(max_length=64)] = []
    leaving: bool = False


class HeartbeatAnswer(Struct):
    """`server_time` is in Unix seconds, so that the agent can see how far its clock is off. `check` asks for
    new connection checks with the next heartbeat."""

    server_time: int
    state: str
    check: bool = False


class MachineAnswer(Struct):
    """Which machine is the site's: its name and address, since when, and when it was last heard of (Unix
    seconds; null after it has ended in order). `here` says that it is the one that asks. All is null before
    any was heard of."""

    here: bool
    machine: str | None
    address: str | None
    since: int | None
    heard: int | None


class Enrol(AgentView):
    """Use a one-time enrolment token: register the agent's public key."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    max_body = 16 * 1024

    @extend_schema(auth=[], **document(EnrolBody, EnrolAnswer))
    def post(self, request: Request) -> Response:
        body = read(request, EnrolBody)
        enrolled = services.enrol(
            body.token,
            public_key=body.public_key,
            approval_key=body.approval_key,
            development_key=body.development_key,
            agent_version=body.agent_version,
            runtime=body.runtime,
            platform_key_pem=body.platform_key_pem,
        )
        answer = {
            "site": enrolled.site.pk,
            "name": enrolled.site.name,
            "coordinator": settings.PUBLIC_URL,
            "pck_chain": enrolled.pck_chain,
        }
        return Response(answer)


class ApprovalKey(AgentView):
    """Give the site another approval key, by a one-time token that its admin got in the browser."""

    max_body = 16 * 1024

    @extend_schema(**document(ReplaceBody, ReplaceAnswer))
    def post(self, request: Request) -> Response:
        body = read(request, ReplaceBody)
        site = services.replace_approval_key(
            agent(request),
            body.token,
            approval_key=body.approval_key,
            development_key=body.development_key,
        )
        return Response({"approval_key": site.approval_key})


class Heartbeat(AgentView):
    """The agent is alive; its first heartbeat makes the site active."""

    @extend_schema(**document(HeartbeatBody, HeartbeatAnswer))
    def post(self, request: Request) -> Response:
        body = read(request, HeartbeatBody)
        checks = [to_builtins(check) for check in body.checks]
        site = services.heartbeat(agent(request), agent_version=body.agent_version, checks=checks)
        if body.leaving:
            instances.leaves(agent(request))
        answer = {
            "server_time": int(timezone.now().timestamp()),
            "state": site.state,
            "check": site.check_wanted,
        }
        return Response(answer)


class Machine(AgentView):
    """Which machine is the site's, for whoever has the site's key; and the move to the one that asks."""

    for_any_machine = True

    @extend_schema(operation_id="machine", **document(None, MachineAnswer))
    def get(self, request: Request) -> Response:
        held = AgentInstance.objects.filter(site=agent(request).site).first()
        return Response(_machine(held, agent(request)))

    @extend_schema(operation_id="machine_move", **document(Nothing, MachineAnswer))
    def post(self, request: Request) -> Response:
        read(request, Nothing)
        return Response(_machine(instances.move(agent(request), client_of(request)), agent(request)))


def _machine(held: AgentInstance | None, asks: AgentPrincipal) -> dict[str, Any]:
    return {
        "here": held is not None and held.place == asks.instance.place,
        "machine": held and held.machine,
        "address": held and held.address,
        "since": held and int(held.since.timestamp()),
        "heard": held and held.heard_at and int(held.heard_at.timestamp()),
    }
