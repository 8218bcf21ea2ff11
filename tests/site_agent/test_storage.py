"""The agent's second destination: used where the hospital has named it, never believed, never missed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from site_agent import blobs, checks
from site_agent.blobs import FRAME_BYTES, download, upload
from site_agent.cli import main
from site_agent.enrolment import connect
from site_agent.letters import letter, with_storage
from site_agent.state import State
from site_agent.storage import Storage
from tests.site_agent.conftest import DROP, Line, Reply, Request, Server

PART = 5 << 20
CONTENT = os.urandom(PART + 2 * FRAME_BYTES + 77)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Both:
    """The coordinator's side; `parts` is what lies in the storage, `content` what came in frames."""

    def __init__(self, storage: Server) -> None:
        self.storage = storage
        self.parts: dict[int, bytes] = {}
        self.content = bytearray()
        self.address = storage.url
        self.waits = 0
        self.given = CONTENT

    def __call__(self, request: Request) -> Reply:
        if request.path.endswith("/parts"):
            number = request.json["number"]
            there = number in self.parts
            return Reply(body={"url": None if there else f"{self.address}/bucket/u1?partNumber={number}"})
        if request.path.endswith("/whole"):
            if self.waits:
                self.waits -= 1
                return Reply(body={"whole": False})
            joined = b"".join(self.parts[number] for number in sorted(self.parts))
            if joined == CONTENT:
                return Reply(body={"whole": True})
            return Reply(409, {"code": "blob.hash_mismatch", "facts": {}})
        if request.path.endswith("/url"):
            return Reply(body={"url": f"{self.address}/bucket/blobs/{SHA256}?signed"})
        if request.method == "POST":
            return Reply(body={"upload": "u1", "offset": len(self.content), "part_bytes": PART})
        if request.method == "PATCH":
            self.content += request.body
            return Reply(body={"offset": len(self.content)})
        if "uploads/" in request.path:
            return Reply(body={"offset": len(self.content)})
        return Reply(206, CONTENT, {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"})

    def store(self, request: Request) -> Reply:
        """What a well-behaved storage does."""
        if request.method == "PUT":
            self.parts[int(request.path.rpartition("=")[2])] = request.body
            return Reply(200, b"")
        assert request.headers["range"] == "bytes=0-"
        reported = {"Content-Range": f"bytes 0-{len(self.given) - 1}/{len(self.given)}"}
        return Reply(206, self.given, reported)


@pytest.fixture
def second() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def both(server: Server, second: Server, line: Line) -> Both:
    made = Both(second)
    server.answer, second.answer = made, made.store
    line.coordinator.storage = Storage(second.url, tell=line.said.append)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sealed"
    path.write_bytes(CONTENT)
    return path


def frames(server: Server) -> int:
    return sum(request.method == "PATCH" for request in server.requests)


def test_parts_go_there_and_no_frame_to_the_coordinator(
    both: Both, line: Line, server: Server, second: Server, file: Path
) -> None:
    seen: list[int] = []
    upload(line.coordinator, file, SHA256, "run", lambda done, _total: seen.append(done))
    assert b"".join(both.parts.values()) == CONTENT and frames(server) == 0
    assert seen == sorted(seen) and seen[-1] == len(CONTENT)
    for request in second.requests:
        assert {"authorization", "cookie", "transfer-encoding"}.isdisjoint(request.headers)
        assert "fedslice" not in str(request.headers).lower()


def test_a_part_that_is_there_is_not_sent_again(both: Both, line: Line, second: Server, file: Path) -> None:
    both.parts[1] = CONTENT[:PART]
    upload(line.coordinator, file, SHA256, "run")
    assert [request.path for request in second.requests] == ["/bucket/u1?partNumber=2"]


def test_it_asks_until_the_coordinator_has_read_back(both: Both, line: Line, file: Path) -> None:
    both.waits = 3
    upload(line.coordinator, file, SHA256, "run")
    assert both.waits == 0


def test_a_broken_connection_costs_one_part(both: Both, line: Line, second: Server, file: Path) -> None:
    tries: list[Request] = []

    def once(request: Request) -> Reply:
        tries.append(request)
        return DROP if len(tries) == 1 else both.store(request)

    second.answer = once
    upload(line.coordinator, file, SHA256, "run")
    assert len(tries) == 3 and b"".join(both.parts.values()) == CONTENT


@pytest.mark.parametrize("reply", [Reply(403, b""), Reply(500, b""), DROP, Reply(200, b"")])
def test_whatever_goes_wrong_there_the_coordinator_takes_it(
    both: Both, line: Line, server: Server, second: Server, file: Path, reply: Reply
) -> None:
    """The last one says yes and keeps nothing."""
    second.answer = lambda request: reply
    upload(line.coordinator, file, SHA256, "run")
    assert bytes(both.content) == CONTENT
    assert any("by the coordinator for now" in said for said in line.said)
    before = len(second.requests)
    both.content.clear()
    upload(line.coordinator, file, SHA256, "run")
    assert bytes(both.content) == CONTENT and len(second.requests) == before, "it is left alone for a while"


def test_a_redirect_is_not_followed(
    both: Both, line: Line, server: Server, second: Server, file: Path
) -> None:
    onward = Server()
    try:
        second.answer = lambda request: Reply(307, b"", {"Location": f"{onward.url}{request.path}"})
        upload(line.coordinator, file, SHA256, "run")
        assert onward.requests == [] and bytes(both.content) == CONTENT
    finally:
        onward.close()


@pytest.mark.parametrize(
    "elsewhere",
    [
        "http://127.0.0.1:1",
        "https://127.0.0.1",
        "//evil",
        "{own}@evil.example",
        "{own}.evil.example",
        "file:///x",
    ],
)
def test_an_address_on_another_host_is_not_used(
    both: Both, line: Line, second: Server, file: Path, elsewhere: str
) -> None:
    both.address = elsewhere.format(own=second.url)
    upload(line.coordinator, file, SHA256, "run")
    assert second.requests == [] and bytes(both.content) == CONTENT
    assert any("agent.storage_elsewhere" in said or "this hospital" in said for said in line.said)


def test_without_a_storage_of_its_own_the_agent_asks_for_no_address(
    both: Both, line: Line, server: Server, file: Path
) -> None:
    line.coordinator.storage = None
    upload(line.coordinator, file, SHA256, "run")
    assert not any("/parts" in request.path for request in server.requests)
    assert bytes(both.content) == CONTENT


def test_a_file_comes_from_there(both: Both, line: Line, server: Server, tmp_path: Path) -> None:
    assert download(line.coordinator, SHA256, tmp_path / "state").read_bytes() == CONTENT
    assert [request.path for request in server.requests] == [f"blobs/{SHA256}/url"]


def test_wrong_bytes_from_there_are_fetched_from_the_coordinator(
    both: Both, line: Line, server: Server, tmp_path: Path
) -> None:
    both.given = os.urandom(len(CONTENT))
    assert download(line.coordinator, SHA256, tmp_path / "state").read_bytes() == CONTENT
    assert [request.path for request in server.requests][-1] == f"blobs/{SHA256}"


def test_so_is_what_it_does_not_give(both: Both, line: Line, second: Server, tmp_path: Path) -> None:
    second.answer = lambda request: Reply(404, b"")
    assert download(line.coordinator, SHA256, tmp_path / "state").read_bytes() == CONTENT


def test_the_command_keeps_it_and_the_agent_goes_by_it(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> int:
        return main(["--state", str(state.folder), "storage", *words])

    assert command() == 0 and "to the coordinator alone" in capsys.readouterr().out
    assert command("https://storage.example:9000") == 0
    fresh = State.open(state.folder)
    assert fresh.config.storage == "https://storage.example:9000"
    coordinator = connect(fresh)
    assert coordinator.storage is not None and coordinator.storage.host == "storage.example:9000"
    coordinator.close()
    assert command("https://storage.example/bucket") == 1
    assert command("http://storage.example") == 1
    assert State.open(state.folder).config.storage == "https://storage.example:9000"
    assert command("--none") == 0
    assert State.open(state.folder).config.storage is None


def rows(state: State, address: str) -> dict[str, Any]:
    import msgspec

    state.assume(msgspec.structs.replace(state.config, storage=address))
    return {check.name: check for check in checks.run_checks(state, 0.0)}


def test_check_has_a_row_for_it_that_is_never_red(state: State, second: Server) -> None:
    second.answer = lambda request: Reply(403, b"")
    assert rows(state, second.url)["storage"].outcome == "pass"
    for reply in (Reply(302, b"", {"Location": "http://127.0.0.1:1/"}), Reply(503, b""), DROP):
        second.answer = lambda request, reply=reply: reply  # type: ignore[misc]
        row = rows(state, second.url)["storage"]
        assert row.outcome == "warn" and "by the coordinator" in row.hint
        assert second.url.rpartition(":")[2] in row.letter


def test_the_letters_name_both_hosts_and_no_other() -> None:
    alone = letter("fedslice.example", 443, "Open it.")
    assert "talks to fedslice.example only" in alone and "storage" not in alone
    with with_storage("https://storage.example:9000"):
        text = letter("fedslice.example", 443, "Open it.")
    assert "talks to fedslice.example and storage.example only" in text
    assert "storage.example, TCP port 9000" in text and "No other address is needed" in text
    assert blobs.FRAME_BYTES == FRAME_BYTES
