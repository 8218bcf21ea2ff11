"""OTLP/HTTP in its JSON form (opentelemetry.io/docs/specs/otlp): spans go to a collector by a thread.

So little is told that it needs neither OpenTelemetry's SDK nor its instrumentations, which would tell
statements and addresses as they are (docs/decisions/0051). What the collector does not take is dropped: no
request waits for it.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import queue
import socket
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings

logger = logging.getLogger(__name__)

INTERNAL, SERVER, CONSUMER = 1, 2, 5
"""Kinds of spans, by OTLP's numbers."""
MOST_WAITING, MOST_AT_ONCE = 4096, 512
EVERY_SECONDS, TIMEOUT_SECONDS, SILENT_SECONDS = 1.0, 5.0, 60.0
_FAILED: Final = 2
Encoded = dict[str, Any]


class _Sender:
    """Of one process; a fork begins another."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._waiting: queue.Queue[Encoded] = queue.Queue(MOST_WAITING)
        self._warned_at = float("-inf")
        threading.Thread(target=self._run, name="traces", daemon=True).start()

    def add(self, span: Encoded) -> None:
        try:
            self._waiting.put_nowait(span)
        except queue.Full:
            self._complain("too many wait")

    def _run(self) -> None:
        while True:
            spans = [self._waiting.get()]
            time.sleep(EVERY_SECONDS)
            while len(spans) < MOST_AT_ONCE and not self._waiting.empty():
                spans.append(self._waiting.get_nowait())
            try:
                post(spans)
            except (OSError, http.client.HTTPException, ValueError) as error:  # the thread lives on
                self._complain(type(error).__name__)

    def _complain(self, fault: str) -> None:
        if time.monotonic() - self._warned_at > SILENT_SECONDS:
            self._warned_at = time.monotonic()
            logger.warning("spans are dropped: %s", fault)


_senders: list[_Sender] = []
_lock = threading.Lock()


def send(span: Encoded) -> None:
    """Leave it to the thread."""
    with _lock:
        if not _senders or _senders[0].process != os.getpid():
            _senders[:] = [_Sender()]
    _senders[0].add(span)


def post(spans: Sequence[Encoded]) -> None:
    """Raises what urllib raises."""
    scope = {"scope": {"name": "fedslice"}, "spans": list(spans)}
    host = {"service.name": "fedslice", "host.name": socket.gethostname(), "process.pid": str(os.getpid())}
    body = {"resourceSpans": [{"resource": {"attributes": _attributes(host)}, "scopeSpans": [scope]}]}
    request = urllib.request.Request(  # noqa: S310 - the operator's own address, http or https by the settings
        settings.TRACES.rstrip("/") + "/v1/traces",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        answer.read()


def encoded(
    name: str,
    ids: tuple[str, str, str],
    times: tuple[int, int],
    *,
    kind: int = INTERNAL,
    attributes: Mapping[str, str | int],
    links: Sequence[tuple[str, str]] = (),
    failed: bool = False,
) -> Encoded:
    """A span. `ids` are of its trace, itself and its parent; `times` are in nanoseconds."""
    trace, span, parent = ids
    return {
        "traceId": trace,
        "spanId": span,
        "parentSpanId": parent,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(times[0]),
        "endTimeUnixNano": str(times[1]),
        "attributes": _attributes(attributes),
        "links": [{"traceId": one, "spanId": other} for one, other in links],
        "status": {"code": _FAILED} if failed else {},
    }


def _attributes(values: Mapping[str, str | int]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in values.items()
    ]
