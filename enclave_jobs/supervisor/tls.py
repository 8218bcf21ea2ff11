"""Mutual TLS between the machines of one coordinator.

A supervisor that listens on anything but loopback, and whoever calls it there, prove themselves by
certificates of the coordinator's own small authority (`authority.py`, or files that the operator brings): the
folder FEDSLICE_SUPERVISOR_TLS holds `authority.pem`, `certificate.pem` and `key.pem`. The caller checks the
name that it called; the token inside remains. Without the folder only loopback is spoken, in plain.
"""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_address
from pathlib import Path

from django.conf import settings

from contracts.refusal import Refusal
from enclave.programs.wire import WireChannel

AUTHORITY, CERTIFICATE, KEY = "authority.pem", "certificate.pem", "key.pem"


class TlsChannel(WireChannel):
    """A channel over TLS. One thread at a time uses it: OpenSSL's connections are not for two."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        super().__init__(connection)
        self._tls = connection

    def _wait(self, remaining: float | None) -> bytes | None:
        # What OpenSSL has already deciphered makes no socket readable.
        if not self._tls.pending():
            return super()._wait(remaining)
        return self._tls.recv(self._tls.pending())


def for_callers(host: str) -> ssl.SSLContext | None:
    """How a supervisor that listens on `host` is called; None: in plain, on loopback.

    Raises: `supervisor.tls_required` or `supervisor.bad_certificate`.
    """
    return _context(host, ssl.Purpose.SERVER_AUTH)


def for_supervisor(host: str) -> ssl.SSLContext | None:
    """How a supervisor listens on `host`, as `for_callers`; it serves nobody without a certificate."""
    context = _context(host, ssl.Purpose.CLIENT_AUTH)
    if context is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        # Tickets would come before the first answer, and make the socket readable with nothing to read.
        context.num_tickets = 0
    return context


def greeted(context: ssl.SSLContext, connection: socket.socket, *, calls: str | None = None) -> TlsChannel:
    """The channel after the handshake: as the caller of the name `calls`, else as the supervisor.

    Raises: `supervisor.not_proven` where the other end cannot prove itself.
    """
    try:
        return TlsChannel(context.wrap_socket(connection, server_side=calls is None, server_hostname=calls))
    except (ssl.SSLError, OSError) as error:
        connection.close()
        fault = getattr(error, "verify_message", "") or getattr(error, "reason", "") or type(error).__name__
        raise Refusal("supervisor.not_proven", fault=str(fault)[:200]) from error


def is_loopback(host: str) -> bool:
    """Whether what is said to this address stays on this machine, whatever a name server says."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _context(host: str, purpose: ssl.Purpose) -> ssl.SSLContext | None:
    if not settings.SUPERVISOR_TLS:
        if is_loopback(host):
            return None
        raise Refusal("supervisor.tls_required", host=host)
    folder = Path(settings.SUPERVISOR_TLS)
    try:
        # The system's own authorities are never asked: anybody can have a certificate of theirs.
        context = ssl.create_default_context(purpose, cafile=str(folder / AUTHORITY))
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except (OSError, ssl.SSLError) as error:
        raise Refusal("supervisor.bad_certificate", folder=str(folder)) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
