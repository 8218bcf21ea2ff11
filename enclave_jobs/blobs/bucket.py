"""Sealed files in an S3 bucket, where the operator has one, in place of a folder (docs/decisions/0047).

    blobs/<sha256>                    a file that was read back and hashed before it came here
    uploads/<upload>                  one on its way: a multipart upload, then the whole until it is checked
    frames/<upload>/<part>/<offset>   what came over the coordinator, until it makes a part

The storage is no more trusted than a disk, and further away: what it gives back counts once its SHA-256 is
right, each time. django-storages holds bucket and credentials; the calls are boto3's.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.core.files.storage import storages

from contracts.refusal import Refusal

PIECE_BYTES: Final = 1 << 20
_MISSING: Final = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}


def client() -> Any:
    """boto3's client of this bucket; one a thread."""
    return storages["blobs"].connection.meta.client  # type: ignore[attr-defined]


def name() -> str:
    """The bucket's."""
    return str(storages["blobs"].bucket_name)  # type: ignore[attr-defined]


def key_of(sha256: str) -> str:
    """Where the checked file of this name lies."""
    return f"blobs/{sha256}"


def call(operation: str, **arguments: Any) -> Any:
    """One request about the bucket. Raises FileNotFoundError for what is not there; any other trouble refuses
    with `blob.storage_away`, which passes."""
    with answering():
        return getattr(client(), operation)(Bucket=name(), **arguments)


@contextmanager
def answering() -> Iterator[None]:
    """What boto3 raises, in our terms. The storage's own words may name keys, so only its code is told."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))[:40]
        if code in _MISSING:
            raise FileNotFoundError(code) from error
        raise Refusal("blob.storage_away", fault=code) from error
    except BotoCoreError as error:
        raise Refusal("blob.storage_away", fault=type(error).__name__) from error


def is_there(sha256: str) -> bool:
    """Whether the storage says that it has the file.

    Raises: `blob.storage_away`.
    """
    try:
        call("head_object", Key=key_of(sha256))
    except FileNotFoundError:
        return False
    return True


def read(sha256: str, start: int, end: int) -> Iterator[bytes]:
    """The bytes [start, end) in pieces, unchecked: for an agent, which hashes what arrives."""
    answer = call("get_object", Key=key_of(sha256), Range=f"bytes={start}-{end - 1}")
    yield from _pieces(answer["Body"])


def opened(sha256: str) -> IO[bytes]:
    """The checked content, in a file of this machine that goes when it is closed.

    Raises FileNotFoundError; refuses with `mailbox.hash_mismatch` and `blob.storage_away`.
    """
    file = tempfile.TemporaryFile(dir=settings.STATE_DIR)  # noqa: SIM115 - the caller closes it
    try:
        copy_checked(key_of(sha256), sha256, file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def bring(sha256: str, target: Path) -> None:
    """Put the checked content at `target`, which appears whole or not at all. As `opened`."""
    # Two steps may ask for the same at once: neither's file is the other's.
    beside = target.with_name(f".{sha256}.{os.urandom(8).hex()}")
    try:
        with beside.open("wb") as file:
            copy_checked(key_of(sha256), sha256, file)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def copy_checked(key: str, sha256: str, file: IO[bytes] | None) -> int:
    """Read an object to its end, into `file` where one is given; its size.

    Raises: `mailbox.hash_mismatch` where it is not what its name says.
    """
    digest, size = hashlib.sha256(), 0
    for piece in _pieces(call("get_object", Key=key)["Body"]):
        digest.update(piece)
        size += len(piece)
        if file is not None:
            file.write(piece)
    if digest.hexdigest() != sha256:
        raise Refusal("mailbox.hash_mismatch", sha256=sha256)
    return size


def put(source: Path, sha256: str) -> int:
    """Bring up a file of our own machine (an enclave's output); its size.

    Raises: `blob.hash_mismatch` and `blob.storage_away`.
    """
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256")
        if found.hexdigest() != sha256:
            raise Refusal("blob.hash_mismatch")
        size = file.seek(0, 2)
        file.seek(0)
        checksum = b64encode(found.digest()).decode()
        call("put_object", Key=key_of(sha256), Body=file, ContentLength=size, ChecksumSHA256=checksum)
    return size


def remove(sha256: str) -> None:
    """Nothing happens where it is gone."""
    call("delete_object", Key=key_of(sha256))


def is_empty() -> bool:
    """Whether no sealed file lies here."""
    return not call("list_objects_v2", Prefix="blobs/", MaxKeys=1).get("Contents")


def _pieces(body: Any) -> Iterator[bytes]:
    with answering():
        yield from body.iter_chunks(PIECE_BYTES)
