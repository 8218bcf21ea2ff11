"""Sealed files in an S3 bucket: over the coordinator in frames, and straight from the hospital in parts."""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.utils import timezone

from contracts.refusal import Refusal
from enclave_host.mailbox import HostMailbox
from enclave_jobs.blobs import parts, uploads
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs.models import Blob, Upload
from enclave_jobs.blobs.uploads import PART_BYTES
from enclave_jobs.jobs.models import Job
from enclave_jobs.supervisor.enclaves import put_in
from tests.jobs.cast import Scene, answer, make_scene
from tests.jobs.test_blobs import begin, code, get, send, send_all
from tests.support.object_storage import ObjectStorage

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("bucket")]
DATA = os.urandom(2 * PART_BYTES + 54321)
NAME = hashlib.sha256(DATA).hexdigest()
PARTS = [DATA[start : start + PART_BYTES] for start in range(0, len(DATA), PART_BYTES)]


@pytest.fixture
def scene() -> Scene:
    return make_scene()


def keys(storage: ObjectStorage, bucket: str) -> list[str]:
    """All that lies in the bucket."""
    listing = httpx.get(f"{storage.server}/{bucket}", params={"list-type": "2"}).text
    return sorted(re.findall(r"<Key>([^<]+)</Key>", listing))


def begun(scene: Scene) -> str:
    """An upload of DATA by St. Anna, under a lease."""
    scene.leased(scene.anna)
    reported = answer(begin(scene, scene.anna, NAME, len(DATA)))
    assert reported["part_bytes"] == PART_BYTES
    return reported["upload"]


def address(scene: Scene, upload: str, number: int, content: bytes) -> Any:
    wanted = {"number": number, "sha256": hashlib.sha256(content).hexdigest()}
    return scene.anna.call("POST", f"blobs/uploads/{upload}/parts", wanted)


def put(url: str, content: bytes, of: bytes | None = None) -> httpx.Response:
    """As an agent does; `of`: with the checksum of other bytes."""
    checksum = b64encode(hashlib.sha256(content if of is None else of).digest()).decode()
    return httpx.put(url, content=content, headers={"x-amz-checksum-sha256": checksum}, timeout=30)


def put_all(scene: Scene, upload: str) -> None:
    for number, content in enumerate(PARTS, 1):
        assert put(answer(address(scene, upload, number, content))["url"], content).status_code == 200


def whole(scene: Scene, upload: str) -> Any:
    return scene.anna.call("POST", f"blobs/uploads/{upload}/whole", {})


def test_parts_go_straight_to_the_storage_and_count_once_they_were_read_back(
    scene: Scene, storage: ObjectStorage, bucket: str
) -> None:
    upload = begun(scene)
    put_all(scene, upload)
    assert not Blob.objects.exists()
    assert answer(whole(scene, upload)) == {"whole": True}
    blob = Blob.objects.get(pk=NAME)
    assert (blob.bytes, blob.complete, blob.owner_site) == (len(DATA), True, scene.anna.site)
    assert keys(storage, bucket) == [f"blobs/{NAME}"] and not Upload.objects.exists()
    assert [one.size for one in storage.of_sites("PUT")] == [len(part) for part in PARTS]
    assert get(scene.anna, NAME).getvalue() == DATA


def test_an_upload_that_broke_off_goes_on_with_the_part_that_is_missing(scene: Scene) -> None:
    upload = begun(scene)
    assert put(answer(address(scene, upload, 1, PARTS[0]))["url"], PARTS[0]).status_code == 200
    assert code(whole(scene, upload)) == "blob.parts_missing"
    assert answer(begin(scene, scene.anna, NAME, len(DATA)))["upload"] == upload
    assert answer(address(scene, upload, 1, PARTS[0])) == {"url": None}
    put_all_from = answer(address(scene, upload, 2, PARTS[1]))["url"]
    assert put(put_all_from, PARTS[1]).status_code == 200
    assert put(answer(address(scene, upload, 3, PARTS[2]))["url"], PARTS[2]).status_code == 200
    assert answer(whole(scene, upload)) == {"whole": True}


def test_an_address_is_for_one_part_one_length_and_one_hash(scene: Scene) -> None:
    upload = begun(scene)
    url = answer(address(scene, upload, 1, PARTS[0]))["url"]
    other = os.urandom(PART_BYTES)
    assert put(url, other).status_code == 403, "its own checksum was not signed"
    assert put(url, other, of=PARTS[0]).status_code == 403, "the checksum is of other bytes"
    assert put(url, PARTS[0][:-1], of=PARTS[0]).status_code == 403, "shorter"
    assert put(url.replace("partNumber=1", "partNumber=2"), PARTS[0]).status_code == 403
    assert put(url.replace(upload, "another"), PARTS[0]).status_code == 403
    assert httpx.get(url).status_code == 403
    assert put(url, PARTS[0]).status_code == 200


def test_it_ends_with_the_lease_and_there_is_none_without(scene: Scene) -> None:
    upload = begun(scene)
    Job.objects.update(lease_deadline=timezone.now() + timedelta(seconds=1.9))
    url = answer(address(scene, upload, 1, PARTS[0]))["url"]
    assert "X-Amz-Expires=1&" in url
    Job.objects.update(lease_deadline=timezone.now() - timedelta(seconds=1))
    assert code(address(scene, upload, 1, PARTS[0])) == "blob.no_direct_way"


def test_it_is_of_no_use_once_the_upload_is_whole(scene: Scene, storage: ObjectStorage, bucket: str) -> None:
    upload = begun(scene)
    url = answer(address(scene, upload, 1, PARTS[0]))["url"]
    put_all(scene, upload)
    whole(scene, upload)
    assert put(url, PARTS[0]).status_code == 404
    assert keys(storage, bucket) == [f"blobs/{NAME}"]


@pytest.mark.parametrize("frame", [blobs.FRAME_BYTES, 777_777])
def test_frames_over_the_coordinator_become_parts_too(
    scene: Scene, storage: ObjectStorage, bucket: str, frame: int
) -> None:
    """Any web process may take the next frame: none keeps anything itself."""
    upload = begun(scene)
    for offset in range(0, len(DATA), frame):
        assert send(scene.anna, upload, offset, DATA[offset : offset + frame]).status_code == 200
    assert keys(storage, bucket) == [f"blobs/{NAME}"]
    assert get(scene.anna, NAME).getvalue() == DATA


def test_a_frame_of_a_broken_try_does_not_count(scene: Scene) -> None:
    upload = begun(scene)
    send(scene.anna, upload, 0, DATA[:1000])
    parts.write_frame(Upload.objects.get(), 1000, b"x" * 1000)  # killed before the row
    assert answer(scene.anna.call("GET", f"blobs/uploads/{upload}")) == {"offset": 1000}
    assert send_all(scene.anna, upload, DATA, 1000).status_code == 200
    assert get(scene.anna, NAME).getvalue() == DATA


def test_after_parts_the_coordinator_takes_frames_and_either_way_ends_well(scene: Scene) -> None:
    upload = begun(scene)
    assert put(answer(address(scene, upload, 2, PARTS[1]))["url"], PARTS[1]).status_code == 200
    assert answer(send_all(scene.anna, upload, DATA)) == {"offset": len(DATA)}
    assert get(scene.anna, NAME).getvalue() == DATA


@pytest.mark.parametrize("killed_after", ["complete_multipart_upload", "copy_object"])
def test_a_kill_between_the_steps_is_mended_by_asking_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, killed_after: str
) -> None:
    from enclave_jobs.blobs import bucket as module

    upload = begun(scene)
    put_all(scene, upload)
    real = module.call

    def call(operation: str, **arguments: Any) -> Any:
        found = real(operation, **arguments)
        if operation == killed_after:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as broken:
        broken.setattr(module, "call", call)
        with pytest.raises(KeyboardInterrupt):
            uploads.whole(Upload.objects.get())
    assert not Blob.objects.exists()
    assert answer(address(scene, upload, 1, PARTS[0])) == {"url": None}
    assert answer(whole(scene, upload)) == {"whole": True}
    assert get(scene.anna, NAME).getvalue() == DATA


def test_what_takes_long_to_read_back_is_left_to_a_worker(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "READ_BACK_AT_ONCE", 0)
    asked: list[Any] = []
    monkeypatch.setattr("enclave_jobs.dispatch.send", lambda *task: asked.append(task))
    upload = begun(scene)
    put_all(scene, upload)
    assert answer(whole(scene, upload)) == {"whole": False} and not Blob.objects.exists()
    assert asked == [("enclave_jobs.read_back", upload)]
    uploads.read_back(upload)
    assert answer(whole(scene, upload)) == {"whole": True} and Blob.objects.get().complete
    assert answer(scene.anna.call("GET", f"blobs/uploads/{upload}")) == {"offset": len(DATA)}
    Upload.objects.update(touched_at=timezone.now() - timedelta(days=2))
    assert uploads.remove_abandoned() == 1 and get(scene.anna, NAME).getvalue() == DATA


def test_the_last_frame_of_a_large_one_waits_for_the_worker(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "READ_BACK_AT_ONCE", 0)
    monkeypatch.setattr("enclave_jobs.dispatch.send", lambda *_task: None)
    upload = begun(scene)
    assert code(send_all(scene.anna, upload, DATA)) == "blob.busy"
    uploads.read_back(upload)
    assert answer(scene.anna.call("GET", f"blobs/uploads/{upload}")) == {"offset": len(DATA)}
    assert get(scene.anna, NAME).getvalue() == DATA


def test_a_file_is_read_straight_from_the_storage_by_those_who_may(scene: Scene) -> None:
    upload = begun(scene)
    put_all(scene, upload)
    whole(scene, upload)
    url = answer(scene.anna.call("GET", f"blobs/{NAME}/url"))["url"]
    assert httpx.get(url).content == DATA
    assert httpx.get(url, headers={"Range": "bytes=5-"}).content == DATA[5:]
    assert httpx.get(url.replace(NAME, "0" * 64)).status_code == 403
    assert Blob.objects.get().downloaded_bytes == len(DATA)
    assert code(scene.berta.call("GET", f"blobs/{NAME}/url")) == "blob.unknown"


def test_a_storage_that_is_away_is_said_so_and_asked_again(scene: Scene, storage: ObjectStorage) -> None:
    upload = begun(scene)
    storage.away = True
    refused = address(scene, upload, 1, PARTS[0])
    assert (refused.status_code, code(refused)) == (503, "blob.storage_away")
    assert code(send(scene.anna, upload, 0, DATA[:100])) == "blob.storage_away"
    assert answer(scene.anna.call("GET", f"blobs/uploads/{upload}")) == {"offset": 0}
    storage.away = False
    put_all(scene, upload)
    assert answer(whole(scene, upload)) == {"whole": True}


def test_without_an_address_for_sites_all_goes_by_the_coordinator(scene: Scene, settings: Any) -> None:
    settings.STORAGE_FOR_SITES = ""
    scene.leased(scene.anna)
    reported = answer(begin(scene, scene.anna, NAME, len(DATA)))
    assert "part_bytes" not in reported
    assert code(address(scene, reported["upload"], 1, PARTS[0])) == "blob.no_direct_way"
    assert answer(send_all(scene.anna, reported["upload"], DATA)) == {"offset": len(DATA)}
    assert code(scene.anna.call("GET", f"blobs/{NAME}/url")) == "blob.no_direct_way"


def test_what_an_enclave_wrote_lies_there_and_comes_back_into_a_mailbox(tmp_path: Any) -> None:
    made = tmp_path / "out"
    made.write_bytes(DATA)
    assert blobs.is_empty() and not blobs.is_there(NAME)
    assert blobs.store(made, NAME) == len(DATA)
    assert blobs.is_there(NAME) and not blobs.is_empty()
    mailbox = HostMailbox.create(tmp_path / "mailbox")
    put_in(mailbox, NAME)
    with mailbox.incoming(NAME) as file:
        assert file.read() == DATA
    with blobs.opened(NAME) as file:
        assert file.read() == DATA
    with pytest.raises(Refusal, match=r"blob\.hash_mismatch"):
        blobs.store(made, "0" * 64)
    blobs.remove(NAME)
    assert not blobs.is_there(NAME)
    with pytest.raises(FileNotFoundError):
        put_in(mailbox, NAME)


def test_two_steps_that_ask_for_the_same_file_at_once_both_get_it(tmp_path: Any) -> None:
    """A supervisor that was killed comes back, and two workers restore its enclave: the run had ended with
    `run.state_lost`."""
    made = tmp_path / "out"
    made.write_bytes(DATA)
    blobs.store(made, NAME)
    mailbox = HostMailbox.create(tmp_path / "mailbox")
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(put_in, mailbox, NAME) for _ in range(12)]
    assert [each.exception() for each in asked] == [None] * 12
    assert [path.name for path in (mailbox.folder / "in").iterdir()] == [NAME]


def test_an_abandoned_upload_leaves_nothing(scene: Scene, storage: ObjectStorage, bucket: str) -> None:
    upload = begun(scene)
    put(answer(address(scene, upload, 1, PARTS[0]))["url"], PARTS[0])
    send(scene.anna, upload, 0, DATA[:1000])
    assert keys(storage, bucket)
    Upload.objects.update(touched_at=timezone.now() - timedelta(days=2))
    assert uploads.remove_abandoned() == 1
    assert keys(storage, bucket) == []
    assert "<Upload>" not in httpx.get(f"{storage.server}/{bucket}?uploads").text


def test_an_address_that_names_no_bucket_is_refused_by_name() -> None:
    from django.core.exceptions import ImproperlyConfigured

    from federation.settings import bucket_storage

    for wrong in ("s3://x", "https://host/bucket", "https://k:s@host/", "https://k:s@host/Up"):
        with pytest.raises(ImproperlyConfigured, match="FEDSLICE_STORAGE"):
            bucket_storage(wrong, "us-east-1")
