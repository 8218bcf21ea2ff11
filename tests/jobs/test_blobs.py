"""The blob store and its endpoints: resumed, truncated, tampered, foreign; and a disk that is really full."""

from __future__ import annotations

import hashlib
import os
import resource
import shlex
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from contracts.refusal import Refusal
from enclave_jobs.blobs import store as blobs
from enclave_jobs.blobs import uploads
from enclave_jobs.blobs.models import Blob, BlobKind, Upload
from tests.federation.cast import API, Hospital
from tests.jobs.cast import Scene, answer, make_scene

pytestmark = pytest.mark.django_db
DATA = os.urandom(2 * blobs.FRAME_BYTES + 12345)
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def store(settings: Any, tmp_path: Path) -> Path:
    settings.BLOB_DIR = tmp_path / "blobs"
    return settings.BLOB_DIR


@pytest.fixture
def scene() -> Scene:
    return make_scene()


def begin(scene: Scene, hospital: Hospital, sha256: str = NAME, size: int = len(DATA)) -> Any:
    return hospital.call("POST", "blobs", {"sha256": sha256, "bytes": size, "run": scene.run.pk})


def send(hospital: Hospital, upload: str, offset: int | None, frame: bytes, **headers: str) -> Any:
    extra = {} if offset is None else {"Upload-Offset": str(offset)}
    token = hospital.token("PATCH", f"blobs/uploads/{upload}", frame)
    return hospital.client.patch(
        f"{API}blobs/uploads/{upload}",
        data=frame,
        content_type="application/octet-stream",
        headers={"Authorization": f"Bearer {token}", **extra, **headers},
    )


def send_all(hospital: Hospital, upload: str, data: bytes, start: int = 0) -> Any:
    response = None
    for offset in range(start, len(data), blobs.FRAME_BYTES):
        response = send(hospital, upload, offset, data[offset : offset + blobs.FRAME_BYTES])
        if response.status_code != 200:
            break
    return response


def get(hospital: Hospital, sha256: str, wanted: str = "") -> Any:
    token = hospital.token("GET", f"blobs/{sha256}")
    headers = {"Authorization": f"Bearer {token}", **({"Range": wanted} if wanted else {})}
    return hospital.client.get(f"{API}blobs/{sha256}", headers=headers)


def code(response: Any) -> str:
    return answer(response)["code"]


def files(store: Path) -> set[str]:
    return {path.name for path in store.rglob("*") if path.is_file()}


def test_a_blob_comes_up_in_frames_and_goes_down_whole(scene: Scene) -> None:
    upload = answer(begin(scene, scene.anna))["upload"]
    assert answer(send_all(scene.anna, upload, DATA)) == {"offset": len(DATA)}
    blob = Blob.objects.get(pk=NAME)
    assert (blob.owner_site, blob.run, blob.bytes, blob.complete) == (
        scene.anna.site,
        scene.run,
        len(DATA),
        True,
    )
    response = get(scene.anna, NAME)
    assert response.getvalue() == DATA
    assert response.headers["Content-Length"] == str(len(DATA))
    assert not Upload.objects.exists()
    assert Blob.objects.get(pk=NAME).downloaded_bytes == len(DATA)


def test_an_upload_goes_on_where_it_stood_also_after_the_agent_forgot_it(scene: Scene) -> None:
    upload = answer(begin(scene, scene.anna))["upload"]
    send(scene.anna, upload, 0, DATA[: blobs.FRAME_BYTES])
    again = answer(begin(scene, scene.anna))
    assert again == {"upload": upload, "offset": blobs.FRAME_BYTES}
    assert answer(scene.anna.call("GET", f"blobs/uploads/{upload}")) == {"offset": blobs.FRAME_BYTES}
    send_all(scene.anna, upload, DATA, blobs.FRAME_BYTES)
    assert Blob.objects.filter(pk=NAME).exists()
    done = answer(begin(scene, scene.anna))
    assert done["offset"] == len(DATA)
    assert answer(scene.anna.call("GET", f"blobs/uploads/{done['upload']}")) == {"offset": len(DATA)}


def test_bytes_of_a_broken_try_beyond_the_offset_do_not_count(scene: Scene) -> None:
    """As if the process had been killed after the write and before the row."""
    upload = answer(begin(scene, scene.anna))["upload"]
    blobs.write_frame(upload, 0, b"x" * blobs.FRAME_BYTES)
    assert answer(scene.anna.call("GET", f"blobs/uploads/{upload}")) == {"offset": 0}
    assert answer(send_all(scene.anna, upload, DATA)) == {"offset": len(DATA)}
    assert get(scene.anna, NAME).getvalue() == DATA


def test_a_crash_between_naming_the_file_and_entering_the_blob_is_mended_by_the_last_frame(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = answer(begin(scene, scene.anna))["upload"]
    with monkeypatch.context() as broken:

        def crash(**fields: Any) -> None:
            raise KeyboardInterrupt

        broken.setattr(Blob.objects, "create", crash)
        with pytest.raises(KeyboardInterrupt):
            send_all(scene.anna, upload, DATA)
    assert not Blob.objects.filter(pk=NAME).exists()
    last = answer(begin(scene, scene.anna))["offset"]
    assert answer(send_all(scene.anna, upload, DATA, last)) == {"offset": len(DATA)}
    assert Blob.objects.filter(pk=NAME).exists()


def test_a_frame_at_another_offset_is_refused_with_the_right_one(scene: Scene) -> None:
    upload = answer(begin(scene, scene.anna))["upload"]
    response = send(scene.anna, upload, 5, DATA[:100])
    assert (response.status_code, code(response)) == (409, "blob.wrong_offset")
    assert answer(response)["facts"] == {"expected": 0, "found": 5}
    assert code(send(scene.anna, upload, None, DATA[:100])) == "blob.invalid"


def test_oversized_and_overlong_frames_are_refused(scene: Scene) -> None:
    upload = answer(begin(scene, scene.anna))["upload"]
    response = send(scene.anna, upload, 0, DATA[: blobs.FRAME_BYTES + 1])
    assert (response.status_code, code(response)) == (413, "blob.frame_too_large")
    assert code(send(scene.anna, upload, 0, b"x" * (2 * blobs.FRAME_BYTES + 1))) == "request.too_large"
    small = answer(begin(scene, scene.anna, "1" * 64, 10))["upload"]
    assert code(send(scene.anna, small, 0, DATA[:11])) == "blob.frame_past_end"
    assert code(begin(scene, scene.anna, "2" * 64, blobs.MAX_BLOB_BYTES + 1)) == "blob.too_large"
    assert answer(scene.anna.call("GET", f"blobs/uploads/{upload}")) == {"offset": 0}


@pytest.mark.django_db(transaction=True)
def test_a_frame_that_breaks_off_is_refused_and_nothing_is_stored(live_server: Any, scene: Scene) -> None:
    """Over a real socket: 200 bytes are announced, 100 come, and the agent's half of the line ends."""
    upload = answer(begin(scene, scene.anna))["upload"]
    head = (
        f"PATCH {API}blobs/uploads/{upload} HTTP/1.1\r\nHost: localhost\r\nUpload-Offset: 0\r\n"
        f"Authorization: Bearer {scene.anna.token()}\r\nContent-Length: 200\r\n"
        "Content-Type: application/octet-stream\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection((live_server.thread.host, live_server.thread.port), timeout=20) as line:
        line.sendall(head.encode() + DATA[:100])
        line.shutdown(socket.SHUT_WR)
        reported = b"".join(iter(lambda: line.recv(65536), b""))
    assert b"blob.frame_truncated" in reported, reported
    assert answer(scene.anna.call("GET", f"blobs/uploads/{upload}")) == {"offset": 0}
    assert answer(send_all(scene.anna, upload, DATA)) == {"offset": len(DATA)}


def test_tampered_bytes_are_refused_at_the_end_and_thrown_away(scene: Scene, store: Path) -> None:
    upload = answer(begin(scene, scene.anna))["upload"]
    tampered = DATA[:-1] + bytes([DATA[-1] ^ 1])
    assert code(send_all(scene.anna, upload, tampered)) == "blob.hash_mismatch"
    assert not Blob.objects.exists() and not Upload.objects.exists()
    assert files(store) == set()
    again = answer(begin(scene, scene.anna))
    assert answer(send_all(scene.anna, again["upload"], DATA)) == {"offset": len(DATA)}


def test_another_sites_blob_and_upload_are_out_of_reach(scene: Scene) -> None:
    upload = answer(begin(scene, scene.anna))["upload"]
    assert code(scene.berta.call("GET", f"blobs/uploads/{upload}")) == "blob.unknown"
    assert code(send(scene.berta, upload, 0, DATA[:100])) == "blob.unknown"
    send_all(scene.anna, upload, DATA)
    assert code(begin(scene, scene.berta)) == "blob.foreign"
    assert code(get(scene.berta, NAME)) == "blob.unknown"
    assert code(get(scene.stranger, NAME)) == "run.unknown"
    assert code(begin(scene, scene.stranger)) == "run.unknown"


def test_the_next_state_is_for_all_members_and_the_enclaves_own_state_for_none(
    scene: Scene, tmp_path: Path
) -> None:
    source = tmp_path / "sealed"
    source.write_bytes(DATA)
    blobs.store(source, NAME)
    blob = Blob.objects.create(sha256=NAME, bytes=len(DATA), kind=BlobKind.NEXT, run=scene.run, complete=True)
    for member in (scene.anna, scene.berta):
        assert get(member, NAME).getvalue() == DATA
    assert code(get(scene.stranger, NAME)) == "run.unknown"
    Blob.objects.filter(pk=blob.pk).update(kind=BlobKind.STATE)
    assert code(get(scene.anna, NAME)) == "blob.unknown"


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(start=st.integers(0, 1200), end=st.one_of(st.none(), st.integers(0, 1200)))
def test_a_range_gives_exactly_these_bytes(store: Path, start: int, end: int | None) -> None:
    from enclave_jobs.blobs.api import byte_range

    data = DATA[:1000]
    name = hashlib.sha256(data).hexdigest()
    blobs.path_of(name).parent.mkdir(parents=True, exist_ok=True)
    blobs.path_of(name).write_bytes(data)
    header = f"bytes={start}-{'' if end is None else end}"
    expected = data[start:] if end is None else data[start : end + 1]
    try:
        first, stop, partial = byte_range(header, len(data))
    except Refusal as refusal:
        assert refusal.code == "blob.range" and expected == b""
        return
    assert partial and b"".join(blobs.read(name, first, stop)) == expected


def test_a_download_can_be_resumed(scene: Scene) -> None:
    send_all(scene.anna, answer(begin(scene, scene.anna))["upload"], DATA)
    response = get(scene.anna, NAME, f"bytes={len(DATA) - 10}-")
    assert (response.status_code, response.getvalue()) == (206, DATA[-10:])
    assert response.headers["Content-Range"] == f"bytes {len(DATA) - 10}-{len(DATA) - 1}/{len(DATA)}"
    response = get(scene.anna, NAME, f"bytes={len(DATA)}-")
    assert (response.status_code, code(response)) == (416, "blob.range")


def test_a_site_may_hold_so_many_uploads_open_and_no_more(scene: Scene) -> None:
    for number in range(uploads.MAX_OPEN_UPLOADS):
        begin(scene, scene.anna, f"{number:064x}", 10)
    assert code(begin(scene, scene.anna, "f" * 64, 10)) == "blob.too_many_uploads"


def test_an_upload_that_nobody_goes_on_with_is_removed(scene: Scene, store: Path) -> None:
    upload = answer(begin(scene, scene.anna))["upload"]
    send(scene.anna, upload, 0, DATA[:100])
    assert uploads.remove_abandoned() == 0
    Upload.objects.update(touched_at=timezone.now() - 2 * timedelta(days=1))
    assert uploads.remove_abandoned() == 1
    assert files(store) == set()


def test_a_second_writer_of_the_same_upload_is_sent_away(scene: Scene, store: Path) -> None:
    import fcntl

    upload = answer(begin(scene, scene.anna))["upload"]
    send(scene.anna, upload, 0, DATA[:100])
    with blobs.part_of(upload).open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert code(send(scene.anna, upload, 100, DATA[100:200])) == "blob.busy"
    assert send(scene.anna, upload, 100, DATA[100:200]).status_code == 200


def test_a_full_disk_is_refused_by_code_and_the_upload_goes_on_when_there_is_room(
    scene: Scene, store: Path
) -> None:
    """A real limit of the operating system (RLIMIT_FSIZE, EFBIG) in this process, on the very write."""
    upload = answer(begin(scene, scene.anna))["upload"]
    assert send(scene.anna, upload, 0, DATA[: blobs.FRAME_BYTES]).status_code == 200
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (blobs.FRAME_BYTES + 1000, hard))
    try:
        response = send(
            scene.anna, upload, blobs.FRAME_BYTES, DATA[blobs.FRAME_BYTES : 2 * blobs.FRAME_BYTES]
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (response.status_code, code(response)) == (507, "blob.storage_full")
    assert answer(scene.anna.call("GET", f"blobs/uploads/{upload}")) == {"offset": blobs.FRAME_BYTES}
    assert blobs.part_of(upload).stat().st_size == blobs.FRAME_BYTES
    assert answer(send_all(scene.anna, upload, DATA, blobs.FRAME_BYTES)) == {"offset": len(DATA)}
    assert get(scene.anna, NAME).getvalue() == DATA


def test_a_filesystem_that_is_really_full_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    """A tmpfs of 2 MiB in a mount namespace of its own; skipped where the machine gives us none."""
    script = f"""
import os, sys, hashlib
from pathlib import Path
os.environ["FEDSLICE_STATE"] = {str(tmp_path / "state")!r}
os.environ["DJANGO_SETTINGS_MODULE"] = "federation.settings"
os.environ["FEDSLICE_BLOBS"] = {str(tmp_path / "small")!r}
import django
django.setup()
from contracts.refusal import Refusal
from enclave_jobs.blobs import store as blobs
frame = os.urandom(blobs.FRAME_BYTES)
blobs.write_frame("first", 0, frame[:1000])
blobs.finish("first", hashlib.sha256(frame[:1000]).hexdigest(), 1000)
blobs.write_frame("second", 0, frame)
try:
    blobs.write_frame("second", len(frame), frame)
except Refusal as refusal:
    assert refusal.code == "blob.storage_full", refusal.code
else:
    sys.exit("the disk was not full")
assert blobs.part_of("second").stat().st_size == len(frame)
source = Path({str(tmp_path / "source")!r})
source.write_bytes(frame)
try:
    blobs.store(source, hashlib.sha256(frame).hexdigest())
except Refusal as refusal:
    assert refusal.code == "blob.storage_full", refusal.code
else:
    sys.exit("the disk was not full")
assert b"".join(blobs.read(hashlib.sha256(frame[:1000]).hexdigest(), 0, 1000)) == frame[:1000]
assert len(list((Path(os.environ["FEDSLICE_BLOBS"]) / "parts").iterdir())) == 1
"""
    (tmp_path / "small").mkdir()
    small, python = shlex.quote(str(tmp_path / "small")), shlex.quote(sys.executable)
    mount = f'mount -t tmpfs -o size=2m tmpfs {small} && exec {python} -c "$SCRIPT"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount],
        env={**os.environ, "SCRIPT": script},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    if done.returncode and ("unshare" in done.stderr or "mount:" in done.stderr):
        pytest.skip(f"no mount namespace here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr


def test_two_owners_of_one_blob_cannot_be(scene: Scene) -> None:
    Blob.objects.create(sha256=NAME, bytes=1, owner_site=scene.anna.site, run=scene.run)
    with pytest.raises(IntegrityError):
        Blob.objects.create(sha256=NAME, bytes=1, owner_site=scene.berta.site, run=scene.run)
