"""Agents' API: the threads of a hospital with the leads of its studies, and what it says in them."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from contracts.agents_api.studies import SAY, THREADS, MessageItem, ThreadItem
from contracts.refusal import Refusal
from federation.sites.agent_view import AgentView, agent
from federation.sites.models import Site
from federation.studies.models import Study
from federation.threads import services
from federation.threads.models import Message
from federation.threads.queries import decline_of
from federation.wire import answer, document, read


class Threads(AgentView):
    """The threads of this hospital."""

    max_body = 128 * 1024

    @extend_schema(operation_id="threads", **document(THREADS))
    def get(self, request: Request) -> HttpResponse:
        """List them, the newest study first."""
        site = agent(request).site
        asked = Study.objects.filter(approvals__site=site).distinct()
        return answer(THREADS, [_thread(study, site) for study in asked])

    @extend_schema(operation_id="thread_message", **document(SAY))
    def post(self, request: Request) -> HttpResponse:
        """Say something in one."""
        body, principal = read(request, SAY), agent(request)
        study = Study.objects.filter(pk=body.study, approvals__site=principal.site).first()
        if study is None:
            raise Refusal("thread.not_asked")
        shown = body.manifest_hash or ""
        services.write(principal, study, principal.site, body.kind, body.text, shown, body.about)
        study.refresh_from_db()
        return answer(SAY, _thread(study, principal.site))


def _thread(study: Study, site: Site) -> ThreadItem:
    said = Message.objects.filter(study=study, site=site).select_related("by")
    return ThreadItem(
        study=study.pk,
        name=study.name,
        manifest_hash=study.manifest_hash,
        state=study.state,
        declined=decline_of(study, site) is not None,
        messages=[_item(row) for row in said],
    )


def _item(row: Message) -> MessageItem:
    return MessageItem(
        number=row.pk,
        at=row.at.isoformat(),
        speaker=row.speaker,
        kind=row.kind,
        about=row.about,
        by=row.by.email if row.by is not None else "",
        text=row.text,
        salt=row.salt,
        digest=row.digest,
    )
