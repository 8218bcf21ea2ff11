"""Small real servers for environments in which something is broken: a coordinator by HTTPS, and proxies.

Each listens on a port of its own on the loopback. The coordinator's manners are chosen by the path in front
of the agents' API, its certificate by the port.
"""

from __future__ import annotations

import base64
import contextlib
import json
import select
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

Serve = Callable[[socket.socket], None]


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, serve: Serve, host: str) -> None:
        self.serve = serve
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(20)
        self.serve(request)

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of these tests."""


@contextmanager
def listening(serve: Serve, host: str = "127.0.0.1") -> Iterator[int]:
    """The port at which each connection is given to `serve`, in a thread of its own."""
    listener = _Listener(serve, host)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield listener.server_address[1]
    finally:
        listener.shutdown()
        listener.server_close()


def by_tls(context: ssl.SSLContext, serve: Serve) -> Serve:
    """The same behind TLS."""

    def secured(line: socket.socket) -> None:
        with context.wrap_socket(line, server_side=True) as secure:
            serve(secure)

    return secured


def coordinator(line: socket.socket) -> None:
    """One connection of the agents' API. What stands before the API in the path says how it behaves."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            manner = self.path.split("/")[1]
            status, headers, body = MANNERS.get(manner, MANNERS["api"])()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if manner == "cut" else body)
            self.close_connection |= manner == "cut"

        def log_message(self, *_: object) -> None:
            pass

    Handler(line, ("", 0), None)  # type: ignore[arg-type]


Answer = tuple[int, dict[str, str], bytes]
PAGE = b"<html><title>Guest network</title>Please sign in.</html>"


def _alive(ahead: float = 0) -> Answer:
    return _json(200, {"server_time": int(time.time() + ahead), "state": "active", "check": False})


def _json(status: int, body: object) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()


def _refused(status: int, code: str, **facts: object) -> Answer:
    return _json(status, {"code": code, "message": "m", "hint": "h", "facts": facts})


HTML = {"Content-Type": "text/html; charset=utf-8"}
MANNERS: dict[str, Callable[[], Answer]] = {
    "api": _alive,
    "cut": _alive,
    "ahead-7": lambda: _alive(7.5),
    "clock": lambda: _refused(401, "auth.clock", server_time=int(time.time() + 600)),
    "suspended": lambda: _refused(403, "auth.site_suspended"),
    "newer": lambda: _refused(409, "tomorrow.unknown"),
    "portal": lambda: (200, HTML, PAGE),
    "fault": lambda: (500, HTML, PAGE),
    "upgrade": lambda: (503, HTML | {"Retry-After": "1"}, PAGE),
    "absent": lambda: (404, HTML, PAGE),
    "moved": lambda: (302, {"Location": "https://login.hospital.example/?to=1"}, b""),
    "large": lambda: (200, {}, b"[" + b"1," * (5 << 20) + b"1]"),
    "fieldless": lambda: _json(200, {"state": "active"}),
}


def proxy(decide: Callable[[str], bytes], inspected: ssl.SSLContext | None = None) -> Serve:
    """An HTTP proxy for CONNECT. `decide` gets the head of the request and gives the answer; after a 200 it
    is a tunnel, or, with `inspected`, opens TLS: that context is shown, and the coordinator played."""

    def serve(line: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = line.recv(4096)
            if not more:
                return
            head += more
        answer = decide(head.decode("latin-1"))
        line.sendall(answer)
        if not answer.startswith(b"HTTP/1.1 200"):
            return
        if inspected is not None:
            by_tls(inspected, coordinator)(line)
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=20) as onward:
            _join(line, onward)

    return serve


def _join(one: socket.socket, other: socket.socket) -> None:
    while True:
        for ready in select.select([one, other], [], [], 20)[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)


OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
PASSWORD = "geheim4711"


def says(status: str, *headers: str) -> Callable[[str], bytes]:
    """A proxy that answers so to everybody."""
    answer = "\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "", ""]).encode()
    return lambda head: answer


def asks_for_a_password(head: str) -> bytes:
    """407 for all but anna with PASSWORD."""
    pair = base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
    if f"Basic {pair}\r\n" in head:
        return OPEN
    return says("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="hospital"')(head)


def silent(line: socket.socket) -> None:
    """Takes the connection and never says a word."""
    with contextlib.suppress(OSError):
        while line.recv(4096):
            pass


def hangs_up(line: socket.socket) -> None:
    """Reads the first words and closes."""
    line.recv(4096)


def ssh(line: socket.socket) -> None:
    """Something else listens at that port."""
    line.recv(1)
    line.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
