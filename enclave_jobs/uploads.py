"""Uploads from a site in resumable frames: the row's `offset` says how many bytes are on disk for good.

1. `begin` names the blob; asking again gives the same upload and where it stands.
2. `append` writes one frame at exactly the offset; the last one makes the file a blob, if its hash is right.
3. An upload that nobody touched for a day is removed by the sweep.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from contracts.refusal import Refusal
from enclave_jobs import blobs
from enclave_jobs.models import Blob, BlobKind, Upload
from enclave_jobs.runs.models import Run
from federation.sites.models import Site

logger = logging.getLogger(__name__)

MAX_OPEN_UPLOADS = 16
ABANDONED_AFTER = timedelta(days=1)


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
        if Upload.objects.filter(site=site).count() >= MAX_OPEN_UPLOADS:
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
    blobs.write_frame(upload.pk, offset, frame)
    moved = Upload.objects.filter(pk=upload.pk, offset=offset).update(offset=end, touched_at=timezone.now())
    if not moved:
        raise Refusal("blob.busy")
    return end


def _complete(upload: Upload, offset: int, frame: bytes) -> None:
    """Write the last frame, name the file, and enter it as a blob. A crash between these steps is mended when
    the agent sends the last frame again: a file under its name was checked already."""
    if not blobs.path_of(upload.sha256).exists():
        blobs.write_frame(upload.pk, offset, frame)
        try:
            blobs.finish(upload.pk, upload.sha256, upload.bytes)
        except Refusal as refusal:
            if refusal.code == "blob.hash_mismatch":
                Upload.objects.filter(pk=upload.pk).delete()
            raise
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
            Upload.objects.filter(pk=upload.pk).delete()
    except IntegrityError as error:
        raise Refusal("blob.foreign") from error
    logger.info("blob %s of %d bytes came from site %s", upload.sha256[:12], upload.bytes, upload.site_id)


def remove_abandoned() -> int:
    """Forget uploads that nobody touched for a day, with their part files; how many."""
    abandoned = Upload.objects.filter(touched_at__lt=timezone.now() - ABANDONED_AFTER)
    for upload in abandoned:
        blobs.part_of(upload.pk).unlink(missing_ok=True)
        upload.delete()
    return len(abandoned)
