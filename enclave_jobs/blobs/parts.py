"""A site's upload into the bucket: in parts of 8 MiB, straight from the site or over the coordinator.

1. `sites_url` lets the site's agent put one part: one key, one number, one length, one SHA-256, until its
   lease ends. A part that is there already is not asked for again.
2. `write_frame` takes a frame of the fallback (1 MiB at most); frames that fill a part become one.
3. `complete` makes the parts one object, which ends every URL, reads it back, hashes it, and only then gives
   it its name. Parts, sizes and checksums that the storage reports are hints: the hash decides.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

import boto3
from django.conf import settings
from django.utils import timezone

from contracts.refusal import Refusal
from enclave_jobs.blobs import bucket
from enclave_jobs.blobs.models import Upload
from enclave_jobs.blobs.uploads import PART_BYTES


def part_size(upload: Upload, number: int) -> int:
    """How long part `number` (from 1) is; 0 beyond the end."""
    return max(0, min(PART_BYTES, upload.bytes - (number - 1) * PART_BYTES))


def sites_url(upload: Upload, number: int, sha256: str, until: datetime) -> str | None:
    """Where the site's agent may put part `number` until then; None where the part is there.

    Raises: `blob.storage_away`, `blob.no_direct_way` and `blob.busy`.
    """
    size, seconds = part_size(upload, number), int((until - timezone.now()).total_seconds())
    if seconds < 1 or size < 1:
        raise Refusal("blob.no_direct_way")
    try:
        here = _parts(upload)
    except FileNotFoundError:  # all parts have come, and are being made one
        return None
    if any(part["PartNumber"] == number and part["Size"] == size for part in here):
        return None
    parameters = {
        "Bucket": bucket.name(),
        "Key": _key(upload),
        "UploadId": upload.multipart,
        "PartNumber": number,
        "ContentLength": size,
        "ChecksumSHA256": b64encode(bytes.fromhex(sha256)).decode(),
    }
    return str(_for_sites().generate_presigned_url("upload_part", Params=parameters, ExpiresIn=seconds))


def download_url(sha256: str, until: datetime) -> str:
    """Where a site's agent may read the file until then.

    Raises: `blob.no_direct_way`.
    """
    seconds = int((until - timezone.now()).total_seconds())
    if seconds < 1:
        raise Refusal("blob.no_direct_way")
    parameters = {"Bucket": bucket.name(), "Key": bucket.key_of(sha256)}
    return str(_for_sites().generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds))


def write_frame(upload: Upload, offset: int, frame: bytes) -> None:
    """Keep `frame`, which begins at `offset`; a part that it fills is put together. The same one again does
    no harm.

    Raises: `blob.storage_away`.
    """
    _begun(upload)
    while frame:
        number, inside = divmod(offset, PART_BYTES)
        piece, frame = frame[: PART_BYTES - inside], frame[PART_BYTES - inside :]
        bucket.call("put_object", Key=f"{_frames(upload, number + 1)}{offset:015d}", Body=piece)
        offset += len(piece)
        if offset % PART_BYTES == 0 or offset == upload.bytes:
            _gather(upload, number + 1)


def complete(upload: Upload) -> None:
    """Give the upload its name, once what the storage has is what was announced.

    May be called again after it was killed anywhere.

    Raises: `blob.parts_missing`, `blob.hash_mismatch` (the upload is then forgotten, and begins again) and
    `blob.storage_away`.
    """
    with suppress(FileNotFoundError):  # an earlier try came further
        parts = _parts(upload)
        sizes = [(part["PartNumber"], part["Size"]) for part in parts]
        count = -(-upload.bytes // PART_BYTES)
        if sizes != [(number, part_size(upload, number)) for number in range(1, count + 1)]:
            raise Refusal("blob.parts_missing", found=len(sizes), expected=count)
        whole = {"Parts": [_named(part) for part in parts]}
        bucket.call(
            "complete_multipart_upload", Key=_key(upload), UploadId=upload.multipart, MultipartUpload=whole
        )
    try:
        _give_name(upload)
    except Refusal as refusal:
        if refusal.code != "mailbox.hash_mismatch":
            raise
        forget(upload)
        raise Refusal("blob.hash_mismatch") from refusal


def _give_name(upload: Upload) -> None:
    source = {"Bucket": bucket.name(), "Key": _key(upload)}
    try:
        size = bucket.copy_checked(_key(upload), upload.sha256, None)
    except FileNotFoundError:  # named already, or lost
        size = _named_before(upload)
    else:
        bucket.call("copy_object", Key=bucket.key_of(upload.sha256), CopySource=source)
    if size != upload.bytes:
        raise Refusal("mailbox.hash_mismatch", sha256=upload.sha256)


def _named_before(upload: Upload) -> int:
    try:
        return bucket.copy_checked(bucket.key_of(upload.sha256), upload.sha256, None)
    except FileNotFoundError as error:
        raise Refusal("mailbox.hash_mismatch", sha256=upload.sha256) from error


def forget(upload: Upload) -> None:
    """Remove all that lies of an upload on its way.

    Raises: `blob.storage_away`.
    """
    if upload.multipart:
        with suppress(FileNotFoundError):
            bucket.call("abort_multipart_upload", Key=_key(upload), UploadId=upload.multipart)
        bucket.call("delete_object", Key=_key(upload))
    _remove_frames(upload, None)


def _parts(upload: Upload) -> list[dict[str, Any]]:
    """What the storage says that it has, by number. Raises FileNotFoundError where the upload is over."""
    _begun(upload)
    answer = bucket.call("list_parts", Key=_key(upload), UploadId=upload.multipart, MaxParts=1000)
    return sorted(answer.get("Parts", []), key=lambda part: int(part["PartNumber"]))


def _begun(upload: Upload) -> None:
    """Two requests may begin at once: one of the two multipart uploads is kept."""
    if upload.multipart:
        return
    begun = bucket.call("create_multipart_upload", Key=_key(upload), ChecksumAlgorithm="SHA256")["UploadId"]
    if not Upload.objects.filter(pk=upload.pk, multipart="").update(multipart=begun):
        bucket.call("abort_multipart_upload", Key=_key(upload), UploadId=begun)
        raise Refusal("blob.busy")
    upload.multipart = begun


def _gather(upload: Upload, number: int) -> None:
    """Make a part of its frames. Those of a broken try may lie among them: only what joins on counts."""
    listed = bucket.call("list_objects_v2", Prefix=_frames(upload, number)).get("Contents", [])
    at, content = (number - 1) * PART_BYTES, bytearray()
    frames = {int(one["Key"].rpartition("/")[2]): one["Key"] for one in listed}
    while at in frames and len(content) < part_size(upload, number):
        frame = bucket.call("get_object", Key=frames[at])["Body"]
        with bucket.answering():
            piece = frame.read()
        content += piece
        at += max(1, len(piece))
    body = bytes(content[: part_size(upload, number)])
    place = {"Key": _key(upload), "UploadId": upload.multipart, "PartNumber": number}
    checksum = b64encode(hashlib.sha256(body).digest()).decode()
    with suppress(FileNotFoundError):  # the parts were made one, and it is being read back
        bucket.call("upload_part", **place, Body=body, ChecksumSHA256=checksum)
    _remove_frames(upload, number - 1)  # of which the row says that they count no more


def _remove_frames(upload: Upload, number: int | None) -> None:
    prefix = f"frames/{upload.pk}/" if number is None else _frames(upload, number)
    while found := bucket.call("list_objects_v2", Prefix=prefix).get("Contents"):
        bucket.call("delete_objects", Delete={"Objects": [{"Key": one["Key"]} for one in found]})


def _named(part: dict[str, Any]) -> dict[str, Any]:
    kept = ("PartNumber", "ETag", "ChecksumSHA256")
    return {name: part[name] for name in kept if name in part}


def _key(upload: Upload) -> str:
    return f"uploads/{upload.pk}"


def _frames(upload: Upload, number: int) -> str:
    return f"frames/{upload.pk}/{number:05d}/"


def _for_sites() -> Any:
    """A client that writes URLs with the address at which hospitals reach the storage."""
    address = settings.STORAGE_FOR_SITES
    if not address:
        raise Refusal("blob.no_direct_way")
    return _client_at(address)


@lru_cache(maxsize=4)
def _client_at(address: str) -> Any:
    options = settings.STORAGES["blobs"]["OPTIONS"]
    return boto3.client(
        "s3",
        aws_access_key_id=options["access_key"],
        aws_secret_access_key=options["secret_key"],
        endpoint_url=address,
        region_name=options["region_name"],
        config=options["client_config"],
    )
