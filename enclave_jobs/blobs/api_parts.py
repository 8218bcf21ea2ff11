"""Agents' API, where blobs lie in a bucket that hospitals reach: addresses for one part, or for one file.

Whoever holds such an address can do this one thing until the lease ends. What comes of it counts only once
the coordinator has read it back (parts.py), or the agent has hashed what it got.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import F
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from contracts.agents_api.blobs import ADDRESS, PART, WHOLE, Address, Whole
from contracts.refusal import Refusal
from enclave_jobs.blobs import uploads
from enclave_jobs.blobs.api import readable
from enclave_jobs.blobs.models import Blob
from enclave_jobs.jobs import leases
from enclave_jobs.runs.members import run_of, site_of
from federation.sites.agent_view import AgentView
from federation.wire import answer, document, read


class UploadPart(AgentView):
    """Where one part may be put, until the lease ends."""

    @extend_schema(operation_id="blob_part", **document(PART))
    def post(self, request: Request, upload: str) -> HttpResponse:
        part = read(request, PART)
        going = uploads.of_site(site_of(request), upload)
        run = run_of(site_of(request), going.run_id, active=True)
        if going.offset == going.bytes:
            return answer(PART, Address(None))
        until = leases.deadline(site_of(request), run)
        if until is None or not uploads.direct():
            raise Refusal("blob.no_direct_way")
        return answer(PART, Address(uploads.part_url(going, part.number, part.sha256, until)))


class UploadWhole(AgentView):
    """All parts are there: the coordinator makes a blob of them, if it is the one that was announced."""

    @extend_schema(operation_id="blob_whole", **document(WHOLE))
    def post(self, request: Request, upload: str) -> HttpResponse:
        read(request, WHOLE)
        going = uploads.of_site(site_of(request), upload)
        run_of(site_of(request), going.run_id, active=True)
        return answer(WHOLE, Whole(uploads.whole(going)))


class DownloadAddress(AgentView):
    """Where a sealed file may be read, until the lease ends, or for as long as a lease lasts."""

    @extend_schema(operation_id="blob_address", **document(ADDRESS))
    def get(self, request: Request, sha256: str) -> HttpResponse:
        blob = readable(site_of(request), sha256)
        if not uploads.direct() or blob.run is None:
            raise Refusal("blob.no_direct_way")
        url = uploads.download_url(sha256, leases.deadline(site_of(request), blob.run) or _soon())
        Blob.objects.filter(pk=blob.pk).update(downloaded_bytes=F("downloaded_bytes") + blob.bytes)
        return answer(ADDRESS, Address(url))


def _soon() -> datetime:
    return timezone.now() + timedelta(seconds=leases.LEASE_SECONDS)
