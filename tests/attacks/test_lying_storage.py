"""A storage that lies, and addresses used for something else: nothing counts that was not hashed here."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.refusal import Refusal
from enclave_host.mailbox import HostMailbox
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs.models import Blob, Upload
from enclave_jobs.blobs.uploads import PART_BYTES
from enclave_jobs.supervisor.enclaves import put_in
from tests.jobs.cast import Scene, answer, make_scene
from tests.jobs.test_bucket import DATA, NAME, PARTS, address, begun, code, keys, put, put_all, whole
from tests.support.object_storage import ObjectStorage, Seen

pytestmark = pytest.mark.django_db


@pytest.fixture
def scene(bucket: str) -> Scene:
    return make_scene()


def refused(mailbox: HostMailbox) -> str:
    with pytest.raises(Refusal) as caught:
        put_in(mailbox, NAME)
    return caught.value.code


@pytest.mark.parametrize("stored", [os.urandom(len(DATA)), DATA[:-1], DATA + b"x", b""])
def test_an_object_that_was_exchanged_after_it_was_checked_reaches_no_enclave(
    scene: Scene, storage: ObjectStorage, bucket: str, tmp_path: Path, stored: bytes
) -> None:
    upload = begun(scene)
    put_all(scene, upload)
    assert answer(whole(scene, upload)) == {"whole": True}
    storage.client().put_object(Bucket=bucket, Key=f"blobs/{NAME}", Body=stored)
    mailbox = HostMailbox.create(tmp_path / "mailbox")
    assert refused(mailbox) == "mailbox.hash_mismatch"
    assert list((mailbox.folder / "in").iterdir()) == []
    with pytest.raises(Refusal, match=r"mailbox\.hash_mismatch"):
        blobs.opened(NAME)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_part_that_the_storage_has_exchanged_is_no_upload(
    scene: Scene, storage: ObjectStorage, bucket: str, number: int
) -> None:
    upload = begun(scene)
    put_all(scene, upload)
    mine = {"partNumber": str(number), "uploadId": Upload.objects.get().multipart}
    other = os.urandom(len(PARTS[number - 1]))
    place = f"{storage.server}/{bucket}/uploads/{upload}"
    httpx.put(place, params=mine, content=other, timeout=30).raise_for_status()
    assert code(whole(scene, upload)) == "blob.hash_mismatch"
    assert not Blob.objects.exists() and keys(storage, bucket) == []
    again = begun_again(scene)
    assert again != upload
    put_all(scene, again)
    assert answer(whole(scene, again)) == {"whole": True}


def begun_again(scene: Scene) -> str:
    wanted = {"sha256": NAME, "bytes": len(DATA), "run": scene.run.pk}
    return answer(scene.anna.call("POST", "blobs", wanted))["upload"]


def test_a_truncated_part_is_missed(scene: Scene, storage: ObjectStorage, bucket: str) -> None:
    upload = begun(scene)
    put_all(scene, upload)
    mine = {"partNumber": "3", "uploadId": Upload.objects.get().multipart}
    place = f"{storage.server}/{bucket}/uploads/{upload}"
    httpx.put(place, params=mine, content=PARTS[2][:-1], timeout=30).raise_for_status()
    assert code(whole(scene, upload)) == "blob.parts_missing"
    assert not Blob.objects.exists()


def test_sizes_and_parts_that_the_storage_makes_up_count_for_nothing(
    scene: Scene, storage: ObjectStorage
) -> None:
    """It says that all parts are there, that it has made them one, and gives back something as long."""
    upload = begun(scene)
    put(answer(address(scene, upload, 1, PARTS[0]))["url"], PARTS[0])
    listed = "".join(
        f'<Part><PartNumber>{n}</PartNumber><ETag>"{n}"</ETag><Size>{len(part)}</Size></Part>'
        for n, part in enumerate(PARTS, 1)
    )

    def lie(seen: Seen, status: int, body: bytes) -> tuple[int, bytes]:
        if seen.method == "GET" and "uploadId" in seen.query:
            return 200, f"<ListPartsResult>{listed}</ListPartsResult>".encode()
        if seen.method == "POST" and "uploadId" in seen.query:
            return 200, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"
        if seen.method == "GET" and "/uploads/" in seen.path:
            return 200, os.urandom(len(DATA))
        return status, body

    storage.lie = lie
    assert code(whole(scene, upload)) == "blob.hash_mismatch"
    assert not Blob.objects.exists()


def test_the_agent_hashes_what_a_storage_gives_and_goes_to_the_coordinator(
    scene: Scene, storage: ObjectStorage
) -> None:
    """The address is good, the bytes are not; that the agent sees it: tests/site_agent/test_storage.py."""
    upload = begun(scene)
    put_all(scene, upload)
    whole(scene, upload)
    storage.lie = lambda seen, status, body: (status, body[::-1] if seen.presigned else body)
    given = httpx.get(answer(scene.anna.call("GET", f"blobs/{NAME}/url"))["url"], timeout=30).content
    assert hashlib.sha256(given).hexdigest() != NAME


def test_one_hospital_cannot_overwrite_what_another_has_brought(
    scene: Scene, storage: ObjectStorage, bucket: str
) -> None:
    upload = begun(scene)
    put_all(scene, upload)
    whole(scene, upload)
    wanted = {"sha256": NAME, "bytes": len(DATA), "run": scene.run.pk}
    scene.leased(scene.berta)
    assert code(scene.berta.call("POST", "blobs", wanted)) == "blob.foreign"
    other = answer(scene.berta.call("POST", "blobs", {**wanted, "sha256": "9" * 64}))["upload"]
    part = {"number": 1, "sha256": hashlib.sha256(PARTS[0]).hexdigest()}
    url = answer(scene.berta.call("POST", f"blobs/uploads/{other}/parts", part))["url"]
    for elsewhere in (f"blobs/{NAME}", f"uploads/{upload}"):
        moved = re.sub(r"uploads/[0-9a-f]+", elsewhere, url, count=1)
        assert moved != url and put(moved, PARTS[0]).status_code == 403
    assert put(url, PARTS[0]).status_code == 200
    kept = storage.client().get_object(Bucket=bucket, Key=f"blobs/{NAME}")["Body"].read()
    assert kept == DATA


def test_no_address_leads_beyond_the_end_of_an_upload(scene: Scene) -> None:
    upload = begun(scene)
    assert code(address(scene, upload, 4, PARTS[0])) == "blob.no_direct_way"
    assert PART_BYTES >= 5 << 20


def test_a_site_asks_for_addresses_of_its_own_uploads_alone(scene: Scene) -> None:
    upload = begun(scene)
    scene.leased(scene.berta)
    part: dict[str, Any] = {"number": 1, "sha256": "0" * 64}
    assert code(scene.berta.call("POST", f"blobs/uploads/{upload}/parts", part)) == "blob.unknown"
    assert code(scene.berta.call("POST", f"blobs/uploads/{upload}/whole", {})) == "blob.unknown"
