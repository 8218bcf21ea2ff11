"""A TCP and TLS line to the coordinator for `check`, by the proxy where there is one (RFC 9110, 9.3.6).

Each way to fail is told apart, so that a red row can name its true cause.
"""

from __future__ import annotations

import _ssl
import base64
import re
import socket
import ssl
from typing import NamedTuple
from urllib.parse import unquote

from cryptography import x509

from outgoing.faults import why
from outgoing.proxies import Proxy

SECONDS = 10.0
MAX_ANSWER = 16384


class ProxyFault(Exception):
    """The proxy is what stands in the way. `status` is its answer to CONNECT, None where there was none;
    `schemes` are the ways to sign in that it takes."""

    def __init__(self, why: str, status: int | None = None, schemes: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.why, self.status, self.schemes = why, status, schemes


class Shown(NamedTuple):
    """What the other side showed: its certificates, its own first, and the version of TLS."""

    chain: list[x509.Certificate]
    version: str

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


def connect_to(way: Proxy | None, host: str, port: int, context: ssl.SSLContext) -> socket.socket:
    """A TCP connection to the coordinator. `context` is for a proxy that is spoken to by TLS.

    Raises ProxyFault for what happens before and at the proxy, OSError for a direct connection.
    """
    if way is None:
        return socket.create_connection((host, port), timeout=SECONDS)
    line: socket.socket | None = None
    try:
        line = socket.create_connection((way.host, way.port), timeout=SECONDS)
        if way.parts.scheme == "https":
            line = context.wrap_socket(line, server_hostname=way.host)
        line.sendall(_wish(way, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))
        answer = _head(line)
        _let_through(answer)
    except (OSError, ProxyFault) as error:
        if line is not None:
            line.close()
        if isinstance(error, OSError):
            raise ProxyFault(why(error)) from error
        raise
    return line


def _wish(way: Proxy, target: str) -> bytes:
    asked = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if way.parts.username:
        pair = f"{unquote(way.parts.username)}:{unquote(way.parts.password or '')}".encode()
        asked += f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}\r\n"
    return f"{asked}\r\n".encode()


def _head(line: socket.socket) -> str:
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < MAX_ANSWER:
        more = line.recv(1024)
        if not more:
            break
        answer += more
    return answer.decode("ascii", "replace")


def _let_through(answer: str) -> None:
    if not answer:
        raise ProxyFault("it closes the connection without an answer")
    spoken = re.match(r"HTTP/1\.[01] ([1-5][0-9]{2})\b", answer)
    if spoken is None:
        raise ProxyFault("what answers there is no HTTP proxy")
    status = int(spoken[1])
    if status // 100 != 2:
        found = re.findall(r"^proxy-authenticate:\s*([a-z]+)", answer, re.IGNORECASE | re.MULTILINE)
        raise ProxyFault(f"it answers {status}", status, tuple(found))


def shake_hands(
    context: ssl.SSLContext, way: Proxy | None, host: str, port: int, proxys: ssl.SSLContext
) -> Shown:
    """What is shown for `host`, believed as far as `context` does. Raises as `connect_to`, and SSLError."""
    with connect_to(way, host, port, proxys) as line:
        spoken = _hands_shaken(context, line, host)
        return Shown(_sent(spoken), spoken.version() or "TLS")


def _hands_shaken(context: ssl.SSLContext, line: socket.socket, host: str) -> ssl.SSLObject:
    """By memory and not by `wrap_socket`, which would not speak through the TLS of a proxy."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    spoken = context.wrap_bio(incoming, outgoing, server_hostname=host)
    while True:
        try:
            spoken.do_handshake()
        except ssl.SSLWantReadError:
            line.sendall(outgoing.read())
            more = line.recv(16384)
            if not more:
                raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "closed within the handshake") from None
            incoming.write(more)
        else:
            line.sendall(outgoing.read())
            return spoken


def _sent(spoken: ssl.SSLObject) -> list[x509.Certificate]:
    """All certificates that the other side sent. Python 3.13 has a public way, 3.11 one level below."""
    sent = spoken._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    if not sent:
        raise OSError("no certificate was shown")
    return [x509.load_der_x509_certificate(found.public_bytes(_ssl.ENCODING_DER)) for found in sent]


def seen_unverified(way: Proxy | None, host: str, port: int, proxys: ssl.SSLContext) -> Shown | None:
    """What is shown here, by whoever it is; nothing is sent over this connection, and nothing believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return shake_hands(context, way, host, port, proxys)
    except (OSError, ValueError, ProxyFault):
        return None
