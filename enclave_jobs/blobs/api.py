"""Agents' API: sealed files up in resumable frames, and down with Range (RFC 9110, section 14)."""

from __future__ import annotations

import re

from django.db.models import F
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from msgspec import UNSET
from rest_framework.parsers import FileUploadParser
from rest_framework.request import Request

from contracts.agents_api.blobs import BEGIN, FRAME, STANDS, Offset, UploadStands
from contracts.refusal import Refusal
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs import uploads
from enclave_jobs.blobs.models import Blob, BlobKind
from enclave_jobs.runs.members import run_of, site_of, starts_for
from federation.sites.agent_view import AgentView
from federation.sites.models import Site
from federation.wire import ERRORS, answer, document, read

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")
_OFFSET = re.compile(r"\d{1,15}")


class Uploads(AgentView):
    """Announce a sealed file; announcing it again tells where its upload stands."""

    @extend_schema(operation_id="blob_begin", **document(BEGIN))
    def post(self, request: Request) -> HttpResponse:
        wanted = read(request, BEGIN)
        run = run_of(site_of(request), wanted.run, active=True)
        upload = uploads.begin(site_of(request), run, wanted.sha256, wanted.bytes, BlobKind(wanted.kind))
        part_bytes = uploads.PART_BYTES if uploads.direct() else UNSET
        return answer(BEGIN, UploadStands(upload.pk, upload.offset, part_bytes))


class UploadFrames(AgentView):
    """One upload: where it stands, and its next frame (raw bytes, at most 1 MiB, header Upload-Offset)."""

    max_body = 2 * blobs.FRAME_BYTES
    cut_off = "blob.frame_truncated"
    parser_classes = [FileUploadParser]

    @extend_schema(operation_id="blob_offset", **document(STANDS))
    def get(self, request: Request, upload: str) -> HttpResponse:
        return answer(STANDS, Offset(uploads.of_site(site_of(request), upload).offset))

    @extend_schema(
        operation_id="blob_frame",
        parameters=[OpenApiParameter("Upload-Offset", int, OpenApiParameter.HEADER, required=True)],
        **(
            document(FRAME)
            | {"request": {"application/octet-stream": {"type": "string", "format": "binary"}}}
        ),
    )
    def patch(self, request: Request, upload: str) -> HttpResponse:
        given = request.headers.get("Upload-Offset", "")
        if not _OFFSET.fullmatch(given):
            raise Refusal("blob.invalid", fault="the header Upload-Offset is missing")
        going = uploads.of_site(site_of(request), upload)
        run_of(site_of(request), going.run_id, active=True)
        return answer(FRAME, Offset(uploads.append(going, int(given), _frame(request))))


class Download(AgentView):
    """A file of this site's runs: the next state, released parameters, what a run starts from, or what the
    site itself has uploaded."""

    @extend_schema(
        operation_id="blob_read",
        parameters=[OpenApiParameter("Range", str, OpenApiParameter.HEADER)],
        responses={
            (200, "application/octet-stream"): bytes,
            (206, "application/octet-stream"): bytes,
            **ERRORS,
        },
    )
    def get(self, request: Request, sha256: str) -> HttpResponse | StreamingHttpResponse:
        blob = readable(site_of(request), sha256)
        start, end, partial = byte_range(request.headers.get("Range"), blob.bytes)
        Blob.objects.filter(pk=blob.pk).update(downloaded_bytes=F("downloaded_bytes") + (end - start))
        response = StreamingHttpResponse(
            blobs.read(sha256, start, end),
            status=206 if partial else 200,
            content_type="application/octet-stream",
        )
        response["Content-Length"] = str(end - start)
        response["Accept-Ranges"] = "bytes"
        response["ETag"] = f'"{sha256}"'
        if partial:
            response["Content-Range"] = f"bytes {start}-{end - 1}/{blob.bytes}"
        return response


def _frame(request: Request) -> bytes:
    """The raw body, which is whole (`AgentView.initial`)."""
    if not request.body:
        raise Refusal("blob.frame_truncated", found=0, expected=1)
    return request.body


def readable(site: Site, sha256: str) -> Blob:
    """The blob, where this site may read it.

    Raises: `blob.unknown`, `run.unknown` and `blob.lost`.
    """
    blob = Blob.objects.filter(sha256=sha256, complete=True).select_related("run").first()
    if blob is None:
        raise Refusal("blob.unknown")
    if blob.kind == BlobKind.START:
        if not starts_for(site, sha256):
            raise Refusal("blob.unknown")
    elif blob.run is None:
        raise Refusal("blob.unknown")
    else:
        run_of(site, blob.run.pk, active=False)
        published = blob.kind in (BlobKind.NEXT, BlobKind.RELEASE) and blob.owner_site_id is None
        if not published and blob.owner_site_id != site.pk:
            raise Refusal("blob.unknown")
    if not blobs.is_there(sha256):  # before an answer begins that could not be finished
        raise Refusal("blob.lost")
    return blob


def byte_range(header: str | None, size: int) -> tuple[int, int, bool]:
    """(start, end, whether partial) of a single range; anything else that the header may say means all."""
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return 0, size, False
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if start >= end:
        raise Refusal("blob.range", bytes=size)
    return start, end, True
