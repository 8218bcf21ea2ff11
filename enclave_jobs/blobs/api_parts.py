"""Agents' API, where blobs lie in a bucket that hospitals reach: addresses for one part, or for one file.

Whoever holds such an address can do this one thing until the lease ends. What comes of it counts only once
the coordinator has read it back (parts.py), or the agent has hashed what it got.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from django.db.models import F
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from msgspec import Meta, Struct
from rest_framework.request import Request
from rest_framework.response import Response

from contracts.policy import Hex32
from contracts.refusal import Refusal
from enclave_jobs.blobs import uploads
from enclave_jobs.blobs.api import readable
from enclave_jobs.blobs.models import Blob
from enclave_jobs.jobs import leases
from enclave_jobs.runs.members import run_of, site_of
from federation.wire import AgentView, document, read


class PartBody(Struct, forbid_unknown_fields=True):
    """A part of an upload that the site wants to put: its number from 1, and what its bytes hash to."""

    number: Annotated[int, Meta(ge=1, le=10_000)]
    sha256: Hex32


class Address(Struct):
    """Where it goes or lies; null where the part is there already."""

    url: str | None


class WholeBody(Struct, forbid_unknown_fields=True):
    """No words are needed."""


class Whole(Struct):
    """Whether the upload was read back and is a blob; if not yet, ask again."""

    whole: bool


class UploadPart(AgentView):
    """Where one part may be put, until the lease ends."""

    @extend_schema(operation_id="blob_part", **document(PartBody, Address))
    def post(self, request: Request, upload: str) -> Response:
        part = read(request, PartBody)
        going = uploads.of_site(site_of(request), upload)
        run = run_of(site_of(request), going.run_id, active=True)
        if going.offset == going.bytes:
            return Response({"url": None})
        until = leases.deadline(site_of(request), run)
        if until is None or not uploads.direct():
            raise Refusal("blob.no_direct_way")
        return Response({"url": uploads.part_url(going, part.number, part.sha256, until)})


class UploadWhole(AgentView):
    """All parts are there: the coordinator makes a blob of them, if it is the one that was announced."""

    @extend_schema(operation_id="blob_whole", **document(WholeBody, Whole))
    def post(self, request: Request, upload: str) -> Response:
        read(request, WholeBody)
        going = uploads.of_site(site_of(request), upload)
        run_of(site_of(request), going.run_id, active=True)
        return Response({"whole": uploads.whole(going)})


class DownloadAddress(AgentView):
    """Where a sealed file may be read, until the lease ends, or for as long as a lease lasts."""

    @extend_schema(operation_id="blob_address", **document(None, Address))
    def get(self, request: Request, sha256: str) -> Response:
        blob = readable(site_of(request), sha256)
        if not uploads.direct() or blob.run is None:
            raise Refusal("blob.no_direct_way")
        url = uploads.download_url(sha256, leases.deadline(site_of(request), blob.run) or _soon())
        Blob.objects.filter(pk=blob.pk).update(downloaded_bytes=F("downloaded_bytes") + blob.bytes)
        return Response({"url": url})


def _soon() -> datetime:
    return timezone.now() + timedelta(seconds=leases.LEASE_SECONDS)
