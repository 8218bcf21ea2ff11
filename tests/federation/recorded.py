"""Collateral as Intel issued it, recorded, and a local HTTP server that serves it as a PCCS does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

CORPUS = Path(__file__).parents[2] / "../shared/attestation-corpus"
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="the recorded quotes are not here")


@dataclass
class Recorded:
    """One recorded set, a time at which all of it is in date, and its quote."""

    fields: dict[str, str]
    at: int
    quote: bytes
    fmspc: str
    ca: str


def recorded(case: str, name: str) -> Recorded:
    folder = CORPUS / case
    meta = json.loads((folder / "meta.json").read_text())
    at = next(item["verify_at_unix"] for item in meta["collateral"] if item["file"] == name)
    of_quote = meta["quote"]
    return Recorded(
        json.loads((folder / name).read_text()),
        at,
        (folder / "quote.bin").read_bytes(),
        of_quote["fmspc"].lower(),
        of_quote["pck_ca"],
    )


@dataclass
class Service:
    """What the server serves, and what it was asked. `crl` is the form in which CRLs go out."""

    served: dict[str, str]
    crl: str = "der"
    has_root_crl: bool = True
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes] | None:
        c = self.served
        info = json.loads(c["tcb_info"])
        tee = info["id"].lower()
        if path == f"/{tee}/certification/v4/tcb" and query == {"fmspc": [info["fmspc"].lower()]}:
            body = f'{{"tcbInfo":{c["tcb_info"]},"signature":"{c["tcb_info_signature"]}"}}'
            return 200, {"TCB-Info-Issuer-Chain": quote(c["tcb_info_issuer_chain"])}, body.encode()
        if path == f"/{tee}/certification/v4/qe/identity":
            body = f'{{"enclaveIdentity":{c["qe_identity"]},"signature":"{c["qe_identity_signature"]}"}}'
            chain = quote(c["qe_identity_issuer_chain"])
            return 200, {"SGX-Enclave-Identity-Issuer-Chain": chain}, body.encode()
        if path == "/sgx/certification/v4/pckcrl" and query["ca"][0] in ("processor", "platform"):
            chain = quote(c["pck_crl_issuer_chain"])
            return 200, {"SGX-PCK-CRL-Issuer-Chain": chain}, self._crl(c["pck_crl"])
        if path == "/root.crl" or (path == "/sgx/certification/v4/rootcacrl" and self.has_root_crl):
            return 200, {}, self._crl(c["root_ca_crl"])
        return None

    def _crl(self, text: str) -> bytes:
        return bytes.fromhex(text) if self.crl == "der" else text.encode()


@contextmanager
def serving(fields: dict[str, str], **options: Any) -> Iterator[Service]:
    """A server on a free port, until the block ends."""
    service = Service(fields, **options)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            service.asked.append(self.path)
            answer = service.answer(parts.path, parse_qs(parts.query)) or (404, {}, b"")
            self.send_response(answer[0])
            for name, value in answer[1].items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer[2])))
            self.end_headers()
            self.wfile.write(answer[2])

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
