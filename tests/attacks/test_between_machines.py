"""Attacks on the line between a supervisor and its callers on other machines, with real sockets: listening in
plain, calling without a certificate or with a stranger's, and standing in between."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from contracts.refusal import Refusal
from enclave.programs.wire import Reply, WireChannel, WireRequest
from enclave_jobs.supervisor import client, life, tls
from enclave_jobs.supervisor.answers import AnswerCache
from enclave_jobs.supervisor.authority import certify, create_authority
from enclave_jobs.supervisor.enclaves import Enclaves
from enclave_jobs.supervisor.protocol import PROTOCOL, Greeting, RunningEnclave
from enclave_jobs.supervisor.server import SupervisorServer
from tests.support.installation import wait_for

pytestmark = pytest.mark.django_db

TOKEN = "a token for this test"
NAME = "localhost"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of two machines of ours, and of one by a stranger's authority with the right name."""
    folder = tmp_path_factory.mktemp("machines")
    for authority, name, out in (
        ("ours", NAME, "supervisor"),
        ("ours", "tail-2.internal", "tail-2"),
        ("theirs", NAME, "stranger"),
    ):
        create_authority(folder / authority)
        certify(folder / authority, name, folder / out)
    return folder


@pytest.fixture
def supervisor(machines: Path, settings: Any, tmp_path: Path) -> Iterator[SupervisorServer]:
    """A real one, whose address is not trusted for being loopback."""
    settings.SUPERVISOR_TOKEN, settings.SUPERVISOR_TLS = TOKEN, str(machines / "supervisor")
    server = SupervisorServer(TOKEN, Enclaves(tmp_path / "e", [], None), AnswerCache(tmp_path / "a"), NAME, 0)
    threading.Thread(target=server.serve, daemon=True).start()
    yield server
    server.close()


def listed(port: int) -> list[RunningEnclave]:
    return list(client.listing(f"{NAME}:{port}"))


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as caught:
        call()
    return caught.value.code


@contextmanager
def between(port: int, context: ssl.SSLContext | None) -> Iterator[tuple[int, list[bytes]]]:
    """Somebody who answers in the supervisor's place, passes on what they hear, and keeps it."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                heard.append(data)
                target.sendall(data)
        except OSError:
            pass
        finally:
            target.close()

    def serve() -> None:
        try:
            caller, _ = listener.accept()
            if context is not None:
                caller = context.wrap_socket(caller, server_side=True)
            onward = socket.create_connection((NAME, port), timeout=10)
        except OSError:
            return
        threading.Thread(target=pump, args=(onward, caller), daemon=True).start()
        pump(caller, onward)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        listener.close()


def test_who_has_a_certificate_of_ours_is_served(
    supervisor: SupervisorServer, machines: Path, settings: Any
) -> None:
    assert listed(supervisor.address[1]) == []
    settings.SUPERVISOR_TLS = str(machines / "tail-2")
    assert listed(supervisor.address[1]) == []


def test_a_caller_in_plain_is_refused_before_it_is_heard(
    supervisor: SupervisorServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        channel = WireChannel(socket.create_connection(supervisor.address, timeout=10))
        with pytest.raises(Refusal, match=r"wire\.closed|wire\.frame_too_large|wire\.invalid"):
            channel.send(Greeting(TOKEN, PROTOCOL))
            channel.send(WireRequest(1, "list", Raw(b"{}")))
            channel.receive(Reply, timeout=10)
    _sent_away(caplog)


def test_a_caller_without_a_certificate_or_with_a_strangers_is_refused(
    supervisor: SupervisorServer, machines: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for certificate in (None, "stranger"):
        context = ssl.create_default_context(cafile=str(machines / "supervisor" / tls.AUTHORITY))
        if certificate is not None:
            folder = machines / certificate
            context.load_cert_chain(folder / tls.CERTIFICATE, folder / tls.KEY)
        caplog.clear()
        with caplog.at_level(logging.WARNING), pytest.raises(Refusal, match=r"wire\.closed"):
            connection = socket.create_connection(supervisor.address, timeout=10)
            # TLS 1.3 tells the caller only when it reads.
            channel = tls.greeted(context, connection, calls=NAME)
            channel.send(Greeting(TOKEN, PROTOCOL))
            channel.send(WireRequest(1, "list", Raw(b"{}")))
            channel.receive(Reply, timeout=10)
        _sent_away(caplog)


def _sent_away(caplog: pytest.LogCaptureFixture) -> None:
    """The supervisor's thread may say it after the caller has heard the end of the line."""
    wait_for(lambda: "supervisor.not_proven" in caplog.text, 20, "the supervisor says why")


@pytest.mark.parametrize("identity", ["stranger", "tail-2"])
def test_somebody_in_between_hears_no_token_not_even_with_another_machines_certificate(
    supervisor: SupervisorServer, machines: Path, identity: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(machines / identity / tls.CERTIFICATE, machines / identity / tls.KEY)
    with between(supervisor.address[1], context) as (port, heard):
        assert code_of(lambda: listed(port)) == "supervisor.not_proven"
    assert heard == []


def test_who_only_passes_on_hears_no_token(supervisor: SupervisorServer) -> None:
    with between(supervisor.address[1], None) as (port, heard):
        assert listed(port) == []
    assert heard and TOKEN.encode() not in b"".join(heard)


def test_a_supervisor_that_answers_in_plain_is_refused(settings: Any, machines: Path, tmp_path: Path) -> None:
    settings.SUPERVISOR_TOKEN, settings.SUPERVISOR_TLS = TOKEN, None
    plain = SupervisorServer(TOKEN, Enclaves(tmp_path / "e", [], None), AnswerCache(tmp_path / "a"), NAME, 0)
    threading.Thread(target=plain.serve, daemon=True).start()
    settings.SUPERVISOR_TLS = str(machines / "supervisor")
    assert code_of(lambda: listed(plain.address[1])) == "supervisor.not_proven"
    plain.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "tail-2.internal", "192.0.2.1", "127.evil.example", "::"])
def test_nothing_but_loopback_is_listened_on_or_called_in_plain(
    settings: Any, tmp_path: Path, host: str
) -> None:
    settings.SUPERVISOR_TLS = None

    def listening() -> SupervisorServer:
        return SupervisorServer(
            TOKEN, Enclaves(tmp_path / "e", [], None), AnswerCache(tmp_path / "a"), host, 0
        )

    assert code_of(listening) == "supervisor.tls_required"
    assert code_of(lambda: client.listing(f"{host}:7700")) == "supervisor.tls_required"
    settings.STATE_DIR, settings.SUPERVISOR_ADDRESS = tmp_path, f"{host}:7700"
    settings.ENCLAVE_RUNTIMES = []
    assert code_of(life.run) == "supervisor.tls_required"


def test_a_folder_without_certificates_is_refused(settings: Any, tmp_path: Path) -> None:
    settings.SUPERVISOR_TLS = str(tmp_path)
    assert code_of(lambda: tls.for_supervisor("127.0.0.1")) == "supervisor.bad_certificate"
