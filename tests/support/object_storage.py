"""An S3 storage for tests: moto's server, and in front of it what a real storage would check, or a liar.

moto takes any signature. So the front computes each presigned address again (Signature Version 4, as AWS's
documentation has it and not as boto3 does it), with expiry and checksum, and refuses as S3 does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import boto3
import httpx
from botocore.config import Config

from tests.support.installation import free_port, wait_for

KEY, SECRET, REGION = "coordinator", "s3cret+with/signs", "us-east-1"


@dataclass
class Seen:
    """A request that came, and whether an address that the coordinator had signed allowed it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    size: int
    presigned: bool


Mutate = Callable[[Seen, int, bytes], tuple[int, bytes]]


@dataclass
class ObjectStorage:
    """`address` is the front's. `lie` may change any answer on its way; `away` lets nobody in."""

    server: str
    address: str = ""
    seen: list[Seen] = field(default_factory=list)
    lie: Mutate = lambda _seen, status, body: (status, body)
    away: bool = False

    def setting(self, bucket: str) -> str:
        """What FEDSLICE_STORAGE says of one of its buckets."""
        return f"http://{KEY}:{quote(SECRET, safe='')}@{urlsplit(self.address).netloc}/{bucket}"

    def create(self, bucket: str) -> None:
        httpx.put(f"{self.server}/{bucket}", timeout=30).raise_for_status()

    def client(self) -> Any:
        """The storage's own hands, past the front."""
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        plain = Config(response_checksum_validation="when_required")  # moto copies a multipart's as it was
        return boto3.client("s3", endpoint_url=self.server, region_name=REGION, config=plain, **keys)

    def of_sites(self, method: str) -> list[Seen]:
        """What came from hospitals, by this method."""
        return [one for one in self.seen if one.presigned and one.method == method]


@contextmanager
def object_storage() -> Iterator[ObjectStorage]:
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    storage = ObjectStorage(f"http://127.0.0.1:{port}")
    front = _Front(storage)
    try:
        wait_for(lambda: _answers(storage.server), 60, "moto's server")
        with front.running():
            storage.address = front.address
            yield storage
    finally:
        server.terminate()
        server.wait(30)


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5).status_code < 500
    except httpx.HTTPError:
        return False


class _Front:
    def __init__(self, storage: ObjectStorage) -> None:
        onward = httpx.Client(timeout=60)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length) if length else b""
                headers = {name.lower(): value for name, value in self.headers.items()}
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                presigned = "X-Amz-Signature" in query
                seen = Seen(self.command, parts.path, query, headers, len(body), presigned)
                storage.seen.append(seen)
                fault = "away" if storage.away else _refused(seen, body) if presigned else ""
                if fault:
                    code = "ServiceUnavailable" if storage.away else fault
                    self.answer(503 if storage.away else 403, {}, _error(code), length=None)
                    return
                kept = {name: value for name, value in headers.items() if name not in ("host", "connection")}
                reply = onward.request(self.command, storage.server + self.path, headers=kept, content=body)
                status, content = reply.status_code, reply.content
                if status == 500 and "uploadId" in query:  # moto, where S3 knows of no such upload
                    status, content = 404, _error("NoSuchUpload")
                status, content = storage.lie(seen, status, content)
                stated_length = reply.headers.get("content-length") if self.command == "HEAD" else None
                self.answer(status, dict(reply.headers), content, stated_length)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def answer(self, status: int, headers: dict[str, str], body: bytes, length: str | None) -> None:
                self.send_response(status)
                skipped = ("content-length", "transfer-encoding", "connection", "content-encoding", "date")
                for name, value in headers.items():
                    if name not in (*skipped, "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that hangs up is part of these tests."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._http.shutdown()
            self._http.server_close()


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


def _refused(seen: Seen, body: bytes) -> str:
    """S3's code for what is wrong with a presigned request; empty where nothing is."""
    query = dict(seen.query)
    given = query.pop("X-Amz-Signature")
    began = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if datetime.now(UTC) > began + timedelta(seconds=int(query["X-Amz-Expires"])):
        return "AccessDenied"
    signed = query["X-Amz-SignedHeaders"].split(";")
    unsigned = {name for name in seen.headers if name.startswith("x-amz-")} - set(signed)
    reported = {**seen.headers, "content-length": str(len(body))}
    canonical = "\n".join(
        [
            seen.method,
            seen.path,
            "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(query.items())),
            *(f"{name}:{reported.get(name, '').strip()}" for name in signed),
            "",
            ";".join(signed),
            "UNSIGNED-PAYLOAD",
        ]
    )
    scope = query["X-Amz-Credential"].partition("/")[2]
    text = "\n".join(
        ["AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = b"AWS4" + SECRET.encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    if unsigned or not hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), given):
        return "SignatureDoesNotMatch"
    checksum = seen.headers.get("x-amz-checksum-sha256")
    if checksum is not None and base64.b64decode(checksum) != hashlib.sha256(body).digest():
        return "BadDigest"
    return ""
