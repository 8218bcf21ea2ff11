"""The second destination: the storage of sealed files, where this hospital has named one.

The coordinator hands out an address for one part, or one file. It is used only where it lies on the host that
this hospital's own config names; no redirect is followed, no token or other header goes along, and what comes
back is hashed by whoever asked. Whatever goes wrong, the coordinator itself takes and gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import httpx

from contracts.refusal import Refusal
from outgoing.client import client_for
from outgoing.faults import in_plain_words
from outgoing.tls import tls_context
from site_agent.addresses import base_url
from site_agent.formatting import printable
from translations.catalogues import words

_ = words("site_agent")

log = logging.getLogger(__name__)

REST_SECONDS = 600.0
"""So long nothing is tried after a fault: a firewall that swallows packets costs ten seconds a try."""
PIECE_BYTES = 256 << 10
TIMEOUT = httpx.Timeout(30.0, connect=10.0)


class Storage:
    """The line to it. One thread at a time works with a file; any thread may use it."""

    def __init__(
        self,
        address: str,
        *,
        ca_bundle: str | None = None,
        insecure_http: bool = False,
        stop: threading.Event | None = None,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        self.address = base_url(address, insecure_http=insecure_http)
        self.host = urlsplit(self.address).netloc
        self._stop = stop or threading.Event()
        self._tell = tell
        self._rests_until = float("-inf")
        self._client = client_for(self.address, tls_context(ca_bundle), timeout=TIMEOUT)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    @property
    def ready(self) -> bool:
        """Whether it is worth a try."""
        return time.monotonic() >= self._rests_until

    def rest(self, fault: Refusal) -> None:
        """Leave it alone for a while, and say so once."""
        if self.ready:
            self._tell(_("%(fault)s All goes by the coordinator for now.") % {"fault": fault})
        self._rests_until = time.monotonic() + REST_SECONDS

    def put(self, url: str, file: BinaryIO, size: int, sha256: str, progress: Callable[[int], None]) -> None:
        """Send the next `size` bytes of `file`.

        Raises: `agent.storage` or `agent.stopped`.
        """
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        headers = {"Content-Length": str(size), "x-amz-checksum-sha256": checksum}
        with self._asked("PUT", url, headers, self._pieces(file, size, progress)):
            pass

    @contextmanager
    def get(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """The answer, its body still to be read.

        Raises: `agent.storage`.
        """
        with self._asked("GET", url, headers, None) as response:
            yield response

    def greet(self) -> int:
        """The status with which it answers a stranger: any but a redirect will do.

        Raises: `agent.storage`.
        """
        try:
            status = self._client.get(f"{self.address}/").status_code
        except httpx.TransportError as error:
            raise self._fault(in_plain_words(error)) from error
        if 300 <= status < 400 or status >= 500:
            raise self._fault(f"it answers {status}")
        return status

    def _pieces(self, file: BinaryIO, size: int, progress: Callable[[int], None]) -> Iterator[bytes]:
        left = size
        while left > 0 and (piece := file.read(min(left, PIECE_BYTES))):
            if self._stop.is_set():
                raise Refusal("agent.stopped")
            yield piece
            left -= len(piece)
            progress(size - left)

    @contextmanager
    def _asked(
        self, method: str, url: str, headers: dict[str, str], content: Iterator[bytes] | None
    ) -> Iterator[httpx.Response]:
        self._require_own(url)
        try:
            request = self._client.build_request(method, url, headers=headers, content=content)
            response = self._client.send(request, stream=True)
            try:
                if response.status_code not in (200, 206):
                    raise self._fault(f"it answers {response.status_code}")
                yield response
            finally:
                response.close()
        except httpx.TransportError as error:
            raise self._fault(in_plain_words(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._fault(type(error).__name__) from error

    def _require_own(self, url: str) -> None:
        """Raises: `agent.storage_elsewhere`: the coordinator names another host than the hospital."""
        try:
            parts = urlsplit(url)
            found = f"{parts.scheme}://{parts.netloc}"
            same = _origin(url) == _origin(self.address) and not parts.username and not parts.fragment
        except ValueError:
            found, same = "no address", False
        if not same:
            raise Refusal("agent.storage_elsewhere", found=printable(found, 200), expected=self.address)

    def _fault(self, fault: str) -> Refusal:
        return Refusal("agent.storage", host=self.host, fault=fault)


def _origin(address: str) -> tuple[str, str, int]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def part_hash(file: Path, start: int, size: int) -> str:
    """SHA-256 of a part of a file, in hex."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        content.seek(start)
        left = size
        while left > 0 and (piece := content.read(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()
