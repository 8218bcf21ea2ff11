"""A collector of spans, as OTLP/HTTP has it: takes what is posted to /v1/traces, and reads it strictly."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Collector:
    """What has come. `away` answers 503."""

    address: str = ""
    away: bool = False
    bodies: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Each with its attributes as a mapping."""
        found = []
        for body in list(self.bodies):
            for resource in json.loads(body)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found += [{**span, "attributes": _read(span["attributes"])} for span in scope["spans"]]
        return found


def _read(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """One on a free port."""
    here = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = (self.path, self.headers["Content-Type"])
            good = asked == ("/v1/traces", "application/json") and not here.away
            if good:
                here.bodies.append(body)
            self.send_response(200 if good else 503)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
