"""The supervisor as a real process with real enclaves: it answers once, serves only its own, and takes its
enclaves with it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.program_calls import EVIDENCE, PING, Challenge, Nothing
from contracts.refusal import Refusal
from enclave.programs.wire import Reply, WireChannel, WireRequest
from enclave_host.mailbox import HostMailbox
from enclave_jobs.blobs import store as blobs
from enclave_jobs.supervisor import client
from enclave_jobs.supervisor.answers import AnswerCache
from enclave_jobs.supervisor.enclaves import Enclaves, Slot, put_in
from enclave_jobs.supervisor.life import development_platform
from enclave_jobs.supervisor.protocol import PROTOCOL, EnclaveCall, Greeting
from tests.support.installation import REPOSITORY, wait_for

# Which machine holds an enclave is asked of the database, which knows none of these.
pytestmark = pytest.mark.django_db

TOKEN = "a token for this test"


def start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "supervisor"],
            cwd=REPOSITORY,
            env={**os.environ, "FEDSLICE_STATE": str(folder), "FEDSLICE_SUPERVISOR_TOKEN": TOKEN},
            stdout=log,
            stderr=log,
        )
    wait_for(
        lambda: (folder / "supervisor.json").exists() or process.poll() is not None, 40, "the supervisor"
    )
    return process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("supervisor")


@pytest.fixture(scope="module")
def process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    running = start(folder)
    yield running
    running.kill()
    running.wait()


@pytest.fixture(autouse=True)
def address(settings: Any, folder: Path) -> None:
    settings.SUPERVISOR_ADDRESS_FILE = folder / "supervisor.json"
    settings.SUPERVISOR_TOKEN = TOKEN


def started(enclave: str) -> None:
    wait_for(lambda: client.start(enclave, "aggregator", "development"), 60, f"enclave {enclave}")


def pid_of(enclave: str) -> int:
    found = next(entry.pid for entry in client.listing() if entry.enclave == enclave)
    assert found is not None
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def code_of(function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Refusal) as caught:
        function(*args, **kwargs)
    return caught.value.code


@pytest.mark.usefixtures("process")
def test_an_enclave_starts_answers_and_stops() -> None:
    started("one")
    assert client.is_running("one")
    assert client.call("one", PING, Nothing()) == Nothing()
    assert code_of(client.call, "one", EVIDENCE, Challenge("0" * 64)) == "program.not_bound"
    pid = pid_of("one")
    client.stop("one")
    assert not is_running(pid)
    assert not client.is_running("one")
    assert code_of(client.call, "one", PING, Nothing()) == "supervisor.no_enclave"
    client.stop("one")


@pytest.mark.usefixtures("process")
def test_starting_again_leaves_a_living_enclave_as_it_is_and_never_revives_a_dead_one() -> None:
    started("two")
    pid = pid_of("two")
    started("two")
    assert pid_of("two") == pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not client.is_running("two"), 10, "its death is seen")
    started("two")
    assert not client.is_running("two")
    assert code_of(client.call, "two", PING, Nothing()) == "program.died"
    client.stop("two")


def test_what_is_stopped_while_it_starts_has_ended_before_another_takes_its_name(
    settings: Any, tmp_path: Path
) -> None:
    settings.DEVELOPMENT_ROOT_DIR = tmp_path / "root"
    enclaves = Enclaves(tmp_path / "enclaves", ["development"], development_platform(tmp_path))

    def start(patience: float = 0.0) -> bool:
        return enclaves.start("one", "aggregator", "development", patience)

    assert not start()
    ending = threading.Thread(target=enclaves.stop, args=("one",))
    ending.start()
    while ending.is_alive():
        start()
        time.sleep(0.01)
    wait_for(lambda: start(1.0), 120, "another under the same name")
    (listed,) = enclaves.listing().enclaves
    of_ours = str(tmp_path / "enclaves").encode()
    living = [
        int(entry.name) for entry in Path("/proc").glob("[0-9]*")
        if is_running(int(entry.name)) and of_ours in (entry / "cmdline").read_bytes()
    ]  # fmt: skip
    enclaves.stop_all()
    assert listed.alive and living == [listed.pid]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_blob_comes_into_a_mailbox_without_a_byte_being_written_but_across_file_systems(
    settings: Any, tmp_path: Path, elsewhere: bool
) -> None:
    """So a round of 200 large updates takes no second place on the disk; the enclave hashes what it reads."""
    content = b"sealed"
    name = hashlib.sha256(content).hexdigest()
    settings.BLOB_DIR = tmp_path / "blobs"
    blob = blobs.path_of(name)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(content)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if elsewhere else tmp_path) as place:
        mailbox = HostMailbox.create(Path(place) / "mailbox")
        for _ in range(2):
            put_in(mailbox, name)
        with mailbox.incoming(name) as file:
            assert file.read() == content
        assert (mailbox.folder / "in" / name).samefile(blob) is not elsewhere
        mailbox.discard(name)
    assert blob.read_bytes() == content


class ClosesARoundOnce:
    """What the supervisor sees of an enclave that closed a round: two files in its mailbox, and a refusal
    when it is asked for the same round again."""

    def __init__(self, mailbox: HostMailbox) -> None:
        self.mailbox, self.closed, self.result = mailbox, False, {}

    def exchange(self, op: str, *_: object, **__: object) -> msgspec.Raw:
        if self.closed:
            raise Refusal("round.already_aggregated", round=1)
        self.closed = True
        for name in ("next", "state"):
            sha256 = hashlib.sha256(name.encode()).hexdigest()
            (self.mailbox.folder / "out" / sha256).write_bytes(name.encode())
            self.result[name] = {"sha256": sha256, "bytes": len(name)}
        return msgspec.Raw(msgspec.json.encode(self.result))


@pytest.fixture
def closing(settings: Any, tmp_path: Path) -> tuple[ClosesARoundOnce, Callable[[], dict[str, Any]]]:
    """Such an enclave, and what asks it as the supervisor does."""
    settings.BLOB_DIR = tmp_path / "blobs"
    enclaves, answers = (
        Enclaves(tmp_path / "enclaves", ["development"], None),
        AnswerCache(tmp_path / "answers"),
    )
    enclave = ClosesARoundOnce(HostMailbox.create(tmp_path / "mailbox"))
    enclaves._slots["enclave"] = Slot("aggregator", process=enclave)  # type: ignore[arg-type]
    files, empty = ("next", "state"), msgspec.Raw(b"{}")
    asked = EnclaveCall("enclave", "aggregate", empty, outputs=files, run="run", key="aggregate/1")

    def ask() -> dict[str, Any]:
        done = answers.once(
            "run", "aggregate/1", lambda: bytes(enclaves.call(asked, None)), 60,
            kept=lambda: enclaves.let_go(asked),
        )  # fmt: skip
        assert done is not None
        answer: dict[str, Any] = msgspec.json.decode(done)
        return answer

    return enclave, ask


def is_stored(enclave: ClosesARoundOnce) -> bool:
    """Each file, and none is left with the enclave."""
    left = list((enclave.mailbox.folder / "out").iterdir())
    return not left and all(blobs.is_there(file["sha256"]) for file in enclave.result.values())


@pytest.mark.parametrize("fault", ["blob.storage_away", "blob.storage_full"])
def test_a_round_closed_while_the_store_was_away_is_not_lost(
    closing: tuple[ClosesARoundOnce, Callable[[], dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    (enclave, ask), really = closing, blobs.store

    def away(source: Path, sha256: str) -> int:
        if sha256 == enclave.result["state"]["sha256"]:
            raise Refusal(fault)
        return really(source, sha256)

    monkeypatch.setattr(blobs, "store", away)
    for _ in range(2):
        with pytest.raises(Refusal, match=fault):
            ask()
    monkeypatch.setattr(blobs, "store", really)
    assert ask() == enclave.result and is_stored(enclave)
    assert ask() == enclave.result, "kept"


def test_a_round_whose_answer_did_not_fit_on_the_disk_is_not_lost(
    closing: tuple[ClosesARoundOnce, Callable[[], dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (enclave, ask), really = closing, AnswerCache._path

    def nowhere(answers: AnswerCache, run: str, key: str) -> Path:
        where = really(answers, run, key)
        where.parent.mkdir(parents=True, exist_ok=True)
        where.with_suffix(f".{os.getpid()}").unlink(missing_ok=True)
        where.with_suffix(f".{os.getpid()}").symlink_to("/dev/full")
        return where

    monkeypatch.setattr(AnswerCache, "_path", nowhere)
    for _ in range(2):
        with pytest.raises(Refusal, match=r"blob\.storage_full"):
            ask()
    monkeypatch.setattr(AnswerCache, "_path", really)
    really(AnswerCache(enclave.mailbox.folder.parent / "answers"), "run", "aggregate/1").with_suffix(
        f".{os.getpid()}"
    ).unlink()
    assert ask() == enclave.result and is_stored(enclave)


def test_what_an_enclave_did_not_write_is_asked_for_again(
    closing: tuple[ClosesARoundOnce, Callable[[], dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the store did not take is held: what can be repeated heals."""
    (enclave, ask), whole = closing, HostMailbox.collect

    def missing(_mailbox: HostMailbox, sha256: str) -> Path:
        raise Refusal("mailbox.missing", sha256=sha256)

    monkeypatch.setattr(HostMailbox, "collect", missing)
    with pytest.raises(Refusal, match=r"mailbox\.missing"):
        ask()
    monkeypatch.setattr(HostMailbox, "collect", whole)
    enclave.closed = False
    assert ask() == enclave.result and is_stored(enclave)


@pytest.mark.usefixtures("process")
def test_only_callers_with_the_token_are_served(settings: Any) -> None:
    settings.SUPERVISOR_TOKEN = "another"
    assert code_of(client.is_running, "one") == "supervisor.unauthorised"


@pytest.mark.usefixtures("process")
def test_a_runtime_that_is_not_allowed_here_is_refused() -> None:
    assert code_of(client.start, "three", "aggregator", "sgx") == "supervisor.runtime_unavailable"


@pytest.mark.usefixtures("process")
def test_unknown_requests_and_large_frames_are_refused(folder: Path) -> None:
    reported = json.loads((folder / "supervisor.json").read_text())

    def said(*messages: bytes | WireRequest) -> Reply:
        channel = WireChannel(socket.create_connection((reported["host"], reported["port"]), timeout=10))
        try:
            channel.send(Greeting(TOKEN, PROTOCOL))
            for message in messages:
                if isinstance(message, bytes):
                    channel._socket.sendall(message)
                else:
                    channel.send(message)
            return channel.receive(Reply, timeout=10)
        finally:
            channel.close()

    def asks(op: str, args: dict[str, Any]) -> Reply:
        return said(WireRequest(1, op, msgspec.Raw(msgspec.json.encode(args))))

    refused = [
        asks("explode", {}),
        asks("start", {"enclave": "../../etc", "program": "aggregator", "runtime": "development"}),
        asks("call", {"enclave": "x", "op": "ping", "args": {}, "inputs": ["../x"]}),
        said((1 << 30).to_bytes(4, "big")),
    ]
    codes = [reply.refused.code for reply in refused if reply.refused]
    assert codes == ["supervisor.bad_request"] * 3 + ["wire.frame_too_large"]


@pytest.mark.usefixtures("process")
def test_an_input_that_is_not_in_the_store_is_refused() -> None:
    started("four")
    assert code_of(client.call, "four", PING, Nothing(), inputs=["0" * 64]) == "blob.unknown"
    client.stop("four")


def test_a_second_supervisor_for_the_same_folder_is_refused(
    process: subprocess.Popen[bytes], folder: Path
) -> None:
    second = subprocess.run(
        [sys.executable, "manage.py", "supervisor"],
        cwd=REPOSITORY,
        env={**os.environ, "FEDSLICE_STATE": str(folder), "FEDSLICE_SUPERVISOR_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1 and "supervisor.second" in second.stderr
    assert process.poll() is None and not client.is_running("nobody")


def test_without_a_supervisor_callers_are_told_so_and_nothing_waits(settings: Any, tmp_path: Path) -> None:
    settings.SUPERVISOR_ADDRESS_FILE = tmp_path / "nothing.json"
    assert code_of(client.is_running, "one") == "supervisor.unreachable"
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    (tmp_path / "nothing.json").write_text(json.dumps({"host": "127.0.0.1", "port": port}))
    assert code_of(client.is_running, "one") == "supervisor.unreachable"


def test_an_enclave_entered_without_an_address_is_not_looked_for_on_a_machine_with_one(
    settings: Any, tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    started("six")
    here = json.loads(settings.SUPERVISOR_ADDRESS_FILE.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings.SUPERVISOR_ADDRESS = f"127.0.0.1:{other.getsockname()[1]}"
        assert client.is_running("six")
        settings.SUPERVISOR_ADDRESS_FILE = tmp_path / "nothing.json"
        settings.SUPERVISOR_ADDRESS = f"{here['host']}:{here['port']}"
        assert code_of(client.is_running, "six") == "supervisor.unreachable"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_enclaves_end_with_their_supervisor_whatever_ends_it(
    settings: Any, tmp_path: Path, number: signal.Signals
) -> None:
    settings.SUPERVISOR_ADDRESS_FILE = tmp_path / "supervisor.json"
    running = start(tmp_path)
    try:
        started("five")
        pid = pid_of("five")
        assert is_running(pid)
        running.send_signal(number)
        running.wait(20)
        wait_for(lambda: not is_running(pid), 10, "the enclave has ended")
        assert (tmp_path / "supervisor.json").exists() == (number == signal.SIGKILL)
    finally:
        running.kill()
        running.wait()


def test_work_is_done_once_for_all_who_ask(tmp_path: Path) -> None:
    answers, done = AnswerCache(tmp_path), []
    go = threading.Event()

    def work() -> bytes:
        go.wait(10)
        done.append(1)
        return b"%d" % len(done)

    assert answers.once("run", "key", work, patience=0.01) is None
    got: list[Any] = []
    askers = [
        threading.Thread(target=lambda: got.append(answers.once("run", "key", work, patience=10)))
        for _ in range(5)
    ]
    for asker in askers:
        asker.start()
    time.sleep(0.1)
    go.set()
    for asker in askers:
        asker.join()
    assert got == [b"1"] * 5
    assert answers.once("run", "key", work, patience=1) == b"1"
    assert answers.once("run", "other", work, patience=1) == b"2"


def test_an_answer_outlives_the_supervisor_until_its_run_is_over(tmp_path: Path) -> None:
    AnswerCache(tmp_path).once("run", "key", lambda: b"kept", patience=5)
    later = AnswerCache(tmp_path)
    assert later.once("run", "key", lambda: b"fresh", patience=5) == b"kept"
    later.once("run", "other", lambda: b"kept", patience=5)
    later.forget("run", ["key", "unknown"])
    assert later.once("run", "key", lambda: b"fresh", patience=5) == b"fresh"
    assert later.once("run", "other", lambda: b"fresh", patience=5) == b"kept"
    later.forget("run")
    assert later.once("run", "other", lambda: b"fresh", patience=5) == b"fresh"


def test_a_refusal_reaches_those_who_wait_and_is_not_kept(tmp_path: Path) -> None:
    answers = AnswerCache(tmp_path)

    def refuse() -> bytes:
        raise Refusal("blob.storage_full")

    assert code_of(answers.once, "run", "key", refuse, 5) == "blob.storage_full"
    assert answers.once("run", "key", lambda: b"room was made", 5) == b"room was made"
