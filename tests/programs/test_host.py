"""Starting, calling, losing and stopping a real enclave program."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

import enclave_host.process as host_module
from enclave.programs.wire import MAX_FRAME_BYTES, Reply
from tests.support.loose_host import LooseHost


@pytest.fixture(scope="module")
def live(house, tmp_path_factory):
    folder = tmp_path_factory.mktemp("live") / "box"
    with LooseHost.start("aggregator", "development", folder, house.platforms["coordinator"]) as process:
        yield process


def gone(pid, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_program_answers_and_leaves_no_secret_in_its_folder(live):
    assert live.alive
    assert live.call("ping") == {}
    assert not (live.mailbox.folder / "host.json").exists()


def test_an_unknown_operation_and_wrong_arguments_are_refused(live, code_of):
    assert code_of(live.call, "explode") == "program.unknown_operation"
    assert code_of(live.call, "ping", more=1) == "program.bad_arguments"
    assert code_of(live.call, "bind", manifest=1, approvals={}) == "program.bad_arguments"
    assert code_of(live.call, "evidence", nonce="00") == "program.bad_arguments"
    assert live.call("ping") == {}


def test_nothing_is_done_for_a_run_before_the_program_is_bound(live, code_of):
    assert code_of(live.call, "evidence", nonce="00" * 32) == "program.not_bound"
    assert code_of(live.call, "challenge", site="anna") == "program.not_bound"
    assert code_of(live.call, "status") == "program.not_bound"


def test_a_frame_that_is_no_request_is_refused_and_the_program_goes_on(live):
    live._channel._socket.sendall((9).to_bytes(4, "big") + b"\xff\x00garbage")
    reply = live._channel.receive(Reply, timeout=10)
    assert (reply.id, reply.refused.code) == (0, "wire.invalid")
    assert live.call("ping") == {}


def test_a_message_over_the_limit_never_leaves_the_host(live, code_of):
    assert code_of(live.call, "bind", manifest="x" * MAX_FRAME_BYTES, approvals={}) == "wire.frame_too_large"
    assert live.call("ping") == {}


def test_threads_take_turns(live):
    failures = []

    def many():
        try:
            for _ in range(50):
                assert live.call("ping", timeout=30) == {}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_call_that_takes_too_long_is_given_up_and_the_next_one_is_right(live, code_of):
    os.kill(live.pid, signal.SIGSTOP)
    try:
        assert code_of(live.call, "ping", timeout=0.2) == "program.timeout"
        waiting = threading.Thread(target=lambda: code_of(live.call, "ping", timeout=1.5))
        waiting.start()
        time.sleep(0.2)
        assert code_of(live.call, "ping", timeout=0.2) == "program.busy"
        waiting.join()
    finally:
        os.kill(live.pid, signal.SIGCONT)
    assert code_of(live.call, "explode") == "program.unknown_operation"
    assert live.call("ping") == {}


def start(house, folder, **kwargs):
    return LooseHost.start("aggregator", "development", folder, house.platforms["coordinator"], **kwargs)


def test_an_announced_oversize_ends_the_program_with_a_code(house, tmp_path, code_of):
    process = start(house, tmp_path / "box")
    process._channel._socket.sendall((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    reply = process._channel.receive(Reply, timeout=10)
    assert reply.refused.code == "wire.frame_too_large"
    assert gone(process.pid)
    assert code_of(process.call, "ping") == "program.died"
    process.stop()


def test_a_killed_program_is_noticed_in_the_middle_of_a_call(house, tmp_path, code_of, refusal_of):
    process = start(house, tmp_path / "box")
    os.kill(process.pid, signal.SIGSTOP)
    threading.Timer(0.3, process._process.kill).start()
    refusal = refusal_of(process.call, "ping")
    assert (refusal.code, refusal.facts["status"]) == ("program.died", -signal.SIGKILL)
    assert not process.alive
    assert code_of(process.call, "ping") == "program.died"
    process.stop()


def test_stop_ends_the_program_and_may_be_said_twice(house, tmp_path):
    process = start(house, tmp_path / "box")
    process.stop()
    process.stop()
    assert process._process.returncode == 0
    assert not process.alive


def test_a_program_that_does_not_listen_is_stopped_all_the_same(house, tmp_path, monkeypatch):
    monkeypatch.setattr(host_module, "STOP_SECONDS", 0.2)
    process = start(house, tmp_path / "box")
    os.kill(process.pid, signal.SIGSTOP)
    process.stop()
    assert gone(process.pid)


def test_a_program_ends_when_its_host_does(house, tmp_path):
    process = start(house, tmp_path / "box")
    process._channel._socket.shutdown(socket.SHUT_RDWR)
    assert gone(process.pid)


def test_a_program_that_ends_at_once_is_told_from_one_that_is_slow(tmp_path, house, monkeypatch, refusal_of):
    monkeypatch.setattr(host_module, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])
    refusal = refusal_of(start, house, tmp_path / "a")
    assert (refusal.code, refusal.facts["fault"]) == ("program.start_failed", "it ended with status 3")
    monkeypatch.setattr(
        host_module, "command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"]
    )
    refusal = refusal_of(start, house, tmp_path / "b", timeout=0.5)
    assert (refusal.code, refusal.facts["fault"]) == ("program.start_failed", "it did not connect in time")


STRANGER = """
import json, pathlib, socket, sys, time
host = json.loads(pathlib.Path(sys.argv[1], "host.json").read_text())
def hello(value):
    connection = socket.create_connection(("127.0.0.1", host["port"]))
    body = json.dumps(value).encode()
    connection.sendall(len(body).to_bytes(4, "big") + body)
    return connection
strangers = [hello({"token": "0" * 64, "program": "aggregator", "protocol": 1}), hello("garbage")]
if sys.argv[2] == "right":
    real = hello({"token": host["token"], "program": "aggregator", "protocol": 1})
else:
    real = hello({"token": host["token"], "program": "client_slice", "protocol": 1})
time.sleep(60)
"""


def test_only_the_process_that_knows_the_token_is_spoken_to(tmp_path, house, monkeypatch, refusal_of):
    def stranger(kind):
        monkeypatch.setattr(
            host_module, "command", lambda _p, _r, box: [sys.executable, "-c", STRANGER, str(box), kind]
        )

    stranger("right")
    process = start(house, tmp_path / "a")
    assert process.alive
    process.kill()
    stranger("wrong program")
    assert "client_slice" in refusal_of(start, house, tmp_path / "b").facts["fault"]


def test_an_unknown_platform_is_a_failed_start_and_the_log_tells_no_text(house, tmp_path, refusal_of):
    platform = tmp_path / "patient-name-in-a-path"
    platform.mkdir()
    refusal = refusal_of(LooseHost.start, "aggregator", "development", tmp_path / "box", platform)
    assert refusal.code == "program.start_failed"
    log = (tmp_path / "box" / "program.log").read_text()
    assert "development.no_platform" in log
    assert "patient-name" not in log
