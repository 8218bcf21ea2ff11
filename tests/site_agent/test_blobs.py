"""Sealed files up and down over a line that breaks; what is there already is not sent again."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from contracts.refusal import Refusal
from site_agent import blobs
from site_agent.blobs import FRAME_BYTES, download, upload
from tests.site_agent.conftest import DROP, Line, Reply, Request, Server


class Store:
    """The coordinator's side of an upload and a download, as docs/protocol.md has it."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.size = 0
        self.fail: list[Reply | str] = []
        self.sent = 0

    def __call__(self, request: Request) -> Reply:
        failure = self.fail.pop(0) if self.fail and request.method in ("PATCH", "GET") else None
        if isinstance(failure, Reply):
            return failure
        if request.method == "POST":
            self.size = request.json["bytes"]
            return Reply(body={"upload": "u1", "offset": len(self.content)})
        if request.method == "PATCH":
            return self._append(request, failure)
        if "uploads/" in request.path:
            return Reply(body={"offset": len(self.content)})
        return self._read(request, failure)

    def _append(self, request: Request, failure: str | None) -> Reply:
        offset = int(request.headers["upload-offset"])
        assert len(request.body) <= FRAME_BYTES
        if offset != len(self.content):
            return Reply(409, {"code": "blob.wrong_offset", "facts": {}})
        self.content += request.body
        self.sent += len(request.body)
        if failure == "lost answer":
            return DROP
        return Reply(body={"offset": len(self.content)})

    def _read(self, request: Request, failure: str | None) -> Reply:
        found = re.fullmatch(r"bytes=(\d+)-", request.headers["range"])
        assert found
        start = 0 if failure == "no ranges" else int(found[1])
        if start >= len(self.content):
            return Reply(416, {"code": "blob.range", "facts": {"bytes": len(self.content)}})
        part = bytes(self.content[start:])
        self.sent += len(part)
        total = len(self.content)
        headers = {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        cut = len(part) // 2 if failure == "cut" else None
        if cut is not None:
            self.sent += cut - len(part)
        if failure == "no ranges":
            return Reply(200, part, {})
        return Reply(206, part, headers, cut=cut)


CONTENT = os.urandom(3 * FRAME_BYTES + 1234)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sealed"
    path.write_bytes(CONTENT)
    return path


def test_a_file_goes_up_in_frames(server: Server, line: Line, file: Path) -> None:
    server.answer = store = Store()
    reported: list[tuple[int, int]] = []
    upload(line.coordinator, file, SHA256, "run-1", lambda done, total: reported.append((done, total)))
    assert bytes(store.content) == CONTENT
    assert server.requests[0].json == {"sha256": SHA256, "bytes": len(CONTENT), "run": "run-1"}
    assert reported[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    "failures",
    [
        [DROP],
        ["lost answer"],
        [Reply(503, b"", {"Retry-After": "0"}), DROP, "lost answer", DROP],
        [Reply(409, {"code": "blob.busy", "facts": {}})],
        [Reply(507, {"code": "blob.storage_full", "facts": {}})],
    ],
    ids=["dropped", "answer lost", "everything", "busy", "disk full"],
)
def test_an_upload_goes_on_where_it_stood(
    server: Server, line: Line, file: Path, failures: list[Reply | str]
) -> None:
    server.answer = store = Store()
    store.fail = list(failures)
    upload(line.coordinator, file, SHA256, "run-1")
    assert bytes(store.content) == CONTENT
    assert store.sent == len(CONTENT), "bytes that were there already were sent again"


def test_an_upload_of_another_process_goes_on(server: Server, line: Line, file: Path) -> None:
    server.answer = store = Store(CONTENT[: FRAME_BYTES + 77])
    upload(line.coordinator, file, SHA256, "run-1")
    assert bytes(store.content) == CONTENT
    assert store.sent == len(CONTENT) - FRAME_BYTES - 77


def test_an_upload_is_given_up_when_nothing_moves(server: Server, line: Line, file: Path) -> None:
    server.answer = store = Store()
    store.fail = [DROP] * 1000
    with pytest.raises(Refusal) as caught:
        upload(line.coordinator, file, SHA256, "run-1", patience=0.2)
    assert caught.value.code == "agent.unreachable"


def test_a_refused_upload_is_not_repeated(server: Server, line: Line, file: Path) -> None:
    server.answer = store = Store()
    store.fail = [Reply(413, {"code": "blob.too_large", "facts": {"bytes": 1, "limit": 1}})]
    with pytest.raises(Refusal) as caught:
        upload(line.coordinator, file, SHA256, "run-1")
    assert caught.value.code == "blob.too_large"


def test_a_file_comes_down_and_is_private(server: Server, line: Line, tmp_path: Path) -> None:
    server.answer = Store(CONTENT)
    target = download(line.coordinator, SHA256, tmp_path / "in" / "next")
    assert target.read_bytes() == CONTENT
    assert target.stat().st_mode & 0o077 == 0


def test_a_download_goes_on_where_it_broke(server: Server, line: Line, tmp_path: Path) -> None:
    server.answer = store = Store(CONTENT)
    store.fail = ["cut", DROP, "cut"]
    assert download(line.coordinator, SHA256, tmp_path / "next").read_bytes() == CONTENT
    starts = [int(request.headers["range"][6:-1]) for request in server.requests]
    assert starts[0] == 0 and starts[1] > 0 and starts[-1] > starts[1]
    assert store.sent <= len(CONTENT) + 2 * 65536, "what had arrived was fetched again"


def test_a_server_without_ranges_is_read_from_the_start(server: Server, line: Line, tmp_path: Path) -> None:
    server.answer = store = Store(CONTENT)
    store.fail = ["cut", "no ranges"]
    assert download(line.coordinator, SHA256, tmp_path / "next").read_bytes() == CONTENT


def test_a_file_that_is_there_is_not_fetched(server: Server, line: Line, tmp_path: Path) -> None:
    (tmp_path / "next").write_bytes(CONTENT)
    download(line.coordinator, SHA256, tmp_path / "next")
    assert server.requests == []


def test_wrong_bytes_are_never_given_out(server: Server, line: Line, tmp_path: Path) -> None:
    server.answer = Store(b"something else")
    with pytest.raises(Refusal) as caught:
        download(line.coordinator, SHA256, tmp_path / "next")
    assert caught.value.code == "agent.blob_corrupt"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_part_of_an_earlier_try_is_thrown_away(server: Server, line: Line, tmp_path: Path) -> None:
    server.answer = Store(CONTENT)
    (tmp_path / "next.part").write_bytes(b"\0" * 1000)
    assert download(line.coordinator, SHA256, tmp_path / "next").read_bytes() == CONTENT


def test_an_endless_file_is_refused(
    server: Server, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = Store(CONTENT)
    with pytest.raises(Refusal) as caught:
        download(line.coordinator, SHA256, tmp_path / "next", limit=1000)
    assert caught.value.code == "agent.blob_too_large"


def test_a_full_disk_has_its_code(
    server: Server, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = Store(CONTENT)

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blobs.os, "write", full)
    with pytest.raises(Refusal) as caught:
        download(line.coordinator, SHA256, tmp_path / "next")
    assert caught.value.code == "agent.no_space"
