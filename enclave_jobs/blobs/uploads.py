"""Uploads from a site in resumable frames: the row's `offset` says how many bytes are on disk for good.

1. `begin` names the blob; asking again gives the same upload and where it stands.
2. `append` writes one frame at exactly the offset; the last one makes the file a blob, if its hash is right.
3. An upload that nobody touched for a day is removed by the sweep.

Where blobs lie in a bucket, frames become its parts, and an agent may bring the parts there itself
(parts.py); `whole` makes a blob of them.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime, timedelta
from types import ModuleType

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from contracts.refusal import Refusal
from enclave_jobs import dispatch
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs.models import Blob, BlobKind, Upload
from enclave_jobs.runs.models import Run
from federation.sites.models import Site

logger = logging.getLogger(__name__)

MAX_OPEN_UPLOADS = 16
ABANDONED_AFTER = timedelta(days=1)
READ_BACK_AT_ONCE = 64 << 20
PART_BYTES = 8 << 20
"""S3 wants 5 MiB at least, and takes 10,000 parts: 4 GiB are 512."""


def begin(site: Site, run: Run, sha256: str, size: int, kind: BlobKind = BlobKind.UPDATE) -> Upload:
    """The upload of this blob by this site for this run, new or as it stands.

    A blob that is stored already gives an unsaved upload whose offset is its size; a shard of features also
    where another run of the site has brought it.

    Raises: `blob.too_large`, `blob.foreign`, `blob.too_many_uploads`.
    """
    if size > blobs.MAX_BLOB_BYTES:
        raise Refusal("blob.too_large", bytes=size, limit=blobs.MAX_BLOB_BYTES)
    stored = Blob.objects.filter(sha256=sha256).first()
    if stored is not None:
        shared = stored.kind == kind == BlobKind.SHARD
        if (stored.owner_site_id, stored.bytes) != (site.pk, size) or not (shared or stored.run_id == run.pk):
            raise Refusal("blob.foreign")
    if stored is not None and (stored.complete or stored.kind != BlobKind.SHARD):
        return Upload(id=f"done-{sha256}", sha256=sha256, bytes=size, offset=size, site=site, run=run)
    with transaction.atomic():
        upload = Upload.objects.filter(site=site, run=run, sha256=sha256).first()
        if upload is not None:
            if upload.bytes != size:
                raise Refusal("blob.invalid", fault="this blob was announced with another size")
            return upload
        if Upload.objects.filter(site=site, offset__lt=F("bytes")).count() >= MAX_OPEN_UPLOADS:
            raise Refusal("blob.too_many_uploads", limit=MAX_OPEN_UPLOADS)
        return Upload.objects.create(site=site, run=run, sha256=sha256, bytes=size, kind=kind)


def of_site(site: Site, upload_id: str) -> Upload:
    """This site's upload.

    Raises: `blob.unknown`, also where it is another site's.
    """
    upload = Upload.objects.filter(pk=upload_id, site=site).select_related("run").first()
    if upload is not None:
        return upload
    blob = Blob.objects.filter(sha256=upload_id.removeprefix("done-"), owner_site=site).first()
    if blob is None or not upload_id.startswith("done-") or blob.run is None:
        raise Refusal("blob.unknown")
    return Upload(
        id=upload_id, sha256=blob.sha256, bytes=blob.bytes, offset=blob.bytes, site=site, run=blob.run
    )


def append(upload: Upload, offset: int, frame: bytes) -> int:
    """Write one frame; the new offset.

    Raises: `blob.wrong_offset`, `blob.frame_too_large`, `blob.frame_past_end`, `blob.busy`,
    `blob.storage_full`, and at the end `blob.hash_mismatch`.
    """
    if len(frame) > blobs.FRAME_BYTES:
        raise Refusal("blob.frame_too_large", bytes=len(frame), limit=blobs.FRAME_BYTES)
    if offset != upload.offset:
        raise Refusal("blob.wrong_offset", expected=upload.offset, found=offset)
    end = offset + len(frame)
    if end > upload.bytes:
        raise Refusal("blob.frame_past_end", end=end, bytes=upload.bytes)
    if upload.pk.startswith("done-"):
        return upload.offset
    if end == upload.bytes:
        _complete(upload, offset, frame)
        return end
    if parts := _parts():
        parts.write_frame(upload, offset, frame)
    else:
        blobs.write_frame(upload.pk, offset, frame)
    moved = Upload.objects.filter(pk=upload.pk, offset=offset).update(offset=end, touched_at=timezone.now())
    if not moved:
        raise Refusal("blob.busy")
    return end


def direct() -> bool:
    """Whether hospitals reach the bucket themselves."""
    return bool(settings.STORAGE_FOR_SITES) and blobs.bucket() is not None


def part_url(upload: Upload, number: int, sha256: str, until: datetime) -> str | None:
    """As `parts.sites_url`; an upload that is still worked on is not abandoned."""
    parts = _parts()
    if parts is None:
        raise Refusal("blob.no_direct_way")
    url: str | None = parts.sites_url(upload, number, sha256, until)
    Upload.objects.filter(pk=upload.pk).update(touched_at=timezone.now())
    return url


def download_url(sha256: str, until: datetime) -> str:
    """As `parts.download_url`."""
    parts = _parts()
    if parts is None:
        raise Refusal("blob.no_direct_way")
    return str(parts.download_url(sha256, until))


def whole(upload: Upload) -> bool:
    """Whether the parts that the site's agent has brought are a blob now. What takes longer to read back than
    an agent waits for an answer is left to a worker: ask again.

    Raises: `blob.no_direct_way`, `blob.parts_missing`, `blob.hash_mismatch`, `blob.storage_away`.
    """
    if upload.offset == upload.bytes:
        return True
    if _parts() is None:
        raise Refusal("blob.no_direct_way")
    if upload.bytes > READ_BACK_AT_ONCE:
        _ask_a_worker(upload)
        return False
    _complete_parts(upload)
    return True


def _ask_a_worker(upload: Upload) -> None:
    Upload.objects.filter(pk=upload.pk).update(touched_at=timezone.now())
    dispatch.send(dispatch.READ_BACK, upload.pk)


def read_back(upload_id: str) -> None:
    """A worker's part of `whole`. The row stays for a day and says that all is there: the agent asks for
    it."""
    upload = Upload.objects.filter(pk=upload_id).select_related("site", "run").first()
    if upload is not None and upload.offset < upload.bytes and _parts():
        try:
            _complete_parts(upload, keep=True)
        except Refusal as refusal:
            logger.warning("upload %s of site %s: %s", upload.pk, upload.site_id, refusal.code)


def _complete_parts(upload: Upload, *, keep: bool = False) -> None:
    parts = _parts()
    assert parts is not None
    try:
        parts.complete(upload)
    except Refusal as refusal:
        if refusal.code == "blob.hash_mismatch":
            Upload.objects.filter(pk=upload.pk).delete()
        raise
    _enter(upload, keep=keep)
    with suppress(Refusal):  # what is left there costs room, no more
        parts.forget(upload)


def _complete(upload: Upload, offset: int, frame: bytes) -> None:
    """Write the last frame, name the file, and enter it as a blob. A crash between these steps is fixed when
    the agent sends the last frame again: a file under its name was checked already."""
    if parts := _parts():
        parts.write_frame(upload, offset, frame)
        _complete_frames(upload)
        return
    if not blobs.path_of(upload.sha256).exists():
        blobs.write_frame(upload.pk, offset, frame)
        try:
            blobs.finish(upload.pk, upload.sha256, upload.bytes)
        except Refusal as refusal:
            if refusal.code == "blob.hash_mismatch":
                Upload.objects.filter(pk=upload.pk).delete()
            raise
    _enter(upload)


def _complete_frames(upload: Upload) -> None:
    """Frames were acknowledged: where the storage lost one, the upload begins again."""
    if upload.bytes > READ_BACK_AT_ONCE:
        _ask_a_worker(upload)
        raise Refusal("blob.busy")
    try:
        _complete_parts(upload)
    except Refusal as refusal:
        if refusal.code != "blob.parts_missing":
            raise
        Upload.objects.filter(pk=upload.pk).delete()
        raise Refusal("blob.hash_mismatch") from refusal


def _parts() -> ModuleType | None:
    if blobs.bucket() is None:
        return None
    from enclave_jobs.blobs import parts

    return parts


def _enter(upload: Upload, *, keep: bool = False) -> None:
    try:
        with transaction.atomic():
            # A shard whose file was removed after its last run may come again.
            again = Blob.objects.filter(
                sha256=upload.sha256, owner_site=upload.site, kind=BlobKind.SHARD, complete=False
            )
            if not again.update(complete=True, run=upload.run):
                Blob.objects.create(
                    sha256=upload.sha256,
                    bytes=upload.bytes,
                    kind=upload.kind,
                    owner_site=upload.site,
                    run=upload.run,
                    complete=True,
                )
            done = Upload.objects.filter(pk=upload.pk)
            if keep:
                done.update(offset=upload.bytes)
            else:
                done.delete()
    except IntegrityError as error:
        raise Refusal("blob.foreign") from error
    logger.info("blob %s of %d bytes came from site %s", upload.sha256[:12], upload.bytes, upload.site_id)


def remove_abandoned() -> int:
    """Forget uploads that nobody touched for a day, with their part files; how many."""
    abandoned = Upload.objects.filter(touched_at__lt=timezone.now() - ABANDONED_AFTER)
    for upload in abandoned:
        if parts := _parts():
            parts.forget(upload)
        else:
            blobs.part_of(upload.pk).unlink(missing_ok=True)
        upload.delete()
    return len(abandoned)
