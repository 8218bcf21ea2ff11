"""An HTTP server that misbehaves on demand, and state folders."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from contracts.bound_request import AGENTS_API as API
from contracts.signing import SigningKey
from site_agent import backoff
from site_agent.state import Config, State
from site_agent.transport import Coordinator
from tests.site_agent.factories import PINNED, certify
from tests.support.instances import HERE
from tests.support.keys import keep_approval_key

SITE = "site-1"


@dataclass
class Request:
    """What the server received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def token(self) -> str:
        return self.headers["authorization"].removeprefix("Bearer ")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What it answers. `cut` sends only so many bytes of the body and then drops the connection."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


DROP = Reply(cut=-1)
"""Close the connection without an answer."""

Answerer = Callable[[Request], Reply]


class Server:
    """A coordinator for the transport's sake: answers each request by `answer`, and remembers them all."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Answerer = lambda request: Reply()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                path = self.path.removeprefix(API)
                request = Request(self.command, path, headers, self.rfile.read(length))
                outer.requests.append(request)
                self.reply(outer.answer(request))

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def reply(self, reply: Reply) -> None:
                if reply.cut is not None:
                    self.close_connection = True
                if reply is DROP:
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.data)))
                self.end_headers()
                self.wfile.write(reply.data if reply.cut is None else reply.data[: reply.cut])

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that hangs up is part of these tests."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def script(self, *replies: Reply) -> None:
        """Answer with these, one after the other, and with the last for ever."""
        left = list(replies)
        self.answer = lambda request: left.pop(0) if len(left) > 1 else left[0]

    def close(self) -> None:
        """Safe to call twice."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries of at most 20 ms, except those that a server asks for."""
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 0.02)


@dataclass
class Line:
    """A coordinator as an agent sees it, with what it said to people."""

    coordinator: Coordinator
    key: SigningKey
    said: list[str]


@pytest.fixture
def line(server: Server, quick: None) -> Iterator[Line]:
    key = SigningKey.generate()
    said: list[str] = []
    coordinator = Coordinator(server.url, (SITE, key, HERE), tell=said.append)
    yield Line(coordinator, key, said)
    coordinator.close()


@pytest.fixture
def state(tmp_path: Path) -> State:
    """An enrolled state folder of a site whose coordinator is not reachable."""
    opened = State.open(tmp_path / "state")
    own = keep_approval_key(opened.folder, opened.key)
    opened.save(
        Config(coordinator="http://127.0.0.1:9", site=SITE, name="St. Anna", approval_key=own, log_key=PINNED)
    )
    certify(opened, tmp_path / "development-root")
    return opened
