"""Agents' API: the threads of a hospital with the leads of its studies, and what it says in them."""

from __future__ import annotations

from typing import Annotated, Literal

from drf_spectacular.utils import extend_schema
from msgspec import Meta, Struct
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.refusal import Refusal
from federation.sites.models import Site
from federation.studies.models import Study
from federation.threads import services
from federation.threads.models import Message
from federation.threads.queries import decline_of
from federation.wire import AgentView, agent, document, read


class MessageItem(Struct):
    """A message. SHA-256(salt ‖ text) is `digest`, which stands in the log; text and salt are empty once they
    were erased."""

    number: int
    at: str
    speaker: Literal["lead", "site"]
    kind: Literal["message", "changes", "decline", "reconsider"]
    about: Literal["study", "release", "serving"]
    by: str
    text: str
    salt: str
    digest: str


class ThreadItem(Struct):
    """What was said between the hospital and a study's lead. `manifest_hash` is what stands to be decided,
    empty while the study is a draft; `declined` says whether the hospital has declined it."""

    study: str
    name: str
    manifest_hash: str
    state: str
    declined: bool
    messages: list[MessageItem]


class MessageBody(Struct, forbid_unknown_fields=True):
    """What the hospital says; a decision names the manifest that it is about."""

    study: Identifier
    kind: Literal["message", "changes", "decline", "reconsider"]
    about: Literal["study", "release", "serving"]
    text: Annotated[str, Meta(max_length=20_000)]
    manifest_hash: Hex32 | None = None


class Threads(AgentView):
    """The threads of this hospital."""

    max_body = 128 * 1024

    @extend_schema(operation_id="threads", **document(None, list[ThreadItem]))
    def get(self, request: Request) -> Response:
        """List them, the newest study first."""
        site = agent(request).site
        asked = Study.objects.filter(approvals__site=site).distinct()
        return Response([_thread(study, site) for study in asked])

    @extend_schema(operation_id="thread_message", **document(MessageBody, ThreadItem))
    def post(self, request: Request) -> Response:
        """Say something in one."""
        body, principal = read(request, MessageBody), agent(request)
        study = Study.objects.filter(pk=body.study, approvals__site=principal.site).first()
        if study is None:
            raise Refusal("thread.not_asked")
        shown = body.manifest_hash or ""
        services.write(principal, study, principal.site, body.kind, body.text, shown, body.about)
        study.refresh_from_db()
        return Response(_thread(study, principal.site))


def _thread(study: Study, site: Site) -> dict[str, object]:
    said = Message.objects.filter(study=study, site=site).select_related("by")
    return {
        "study": study.pk,
        "name": study.name,
        "manifest_hash": study.manifest_hash,
        "state": study.state,
        "declined": decline_of(study, site) is not None,
        "messages": [_item(row) for row in said],
    }


def _item(row: Message) -> dict[str, object]:
    return {
        "number": row.pk,
        "at": row.at.isoformat(),
        "speaker": row.speaker,
        "kind": row.kind,
        "about": row.about,
        "by": row.by.email if row.by is not None else "",
        "text": row.text,
        "salt": row.salt,
        "digest": row.digest,
    }
