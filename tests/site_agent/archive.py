"""A coordinator that shows a site receipts and evidence of their signers: true ones, and what it likes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from attestation.development import (
    collateral,
    create_platform,
    create_root,
    install_platform,
    issue_platform,
    load_platform,
    root_sha256,
)
from attestation.measurement import DEVELOPMENT_MRSIGNER
from contracts.canonical import canonical
from contracts.evidence import Claims, Evidence, report_data
from contracts.manifest import Manifest
from contracts.policy import Policy, Program, SgxReference
from contracts.receipts import SignedReceipt
from contracts.sealed.hpke import HpkeKey
from contracts.signing import SigningKey
from tests.site_agent.conftest import Reply, Request, Server

MEASURED: dict[Program, str] = {"aggregator": "1" * 64, "client_slice": "2" * 64, "split_server": "3" * 64}


class Platform:
    """A certified development platform, and the policy that accepts the programs of MEASURED on it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        create_root(self.root)
        install_platform(folder / "host", issue_platform(self.root, create_platform(folder / "host")))
        self._host = load_platform(folder / "host")
        references = tuple(SgxReference(program, mrenclave=value) for program, value in MEASURED.items())
        self.policy = Policy("development", root_sha256(self.root), references)

    def evidence(
        self, manifest: Manifest, program: Program, key: SigningKey, nonce: str = "0" * 64, **changes: str
    ) -> Evidence:
        """Of an enclave that signs with this key; `mrenclave` may be another than the program's."""
        claims = Claims(nonce, HpkeKey.generate().public, key.public, manifest.hash, program)
        quote = self._host.sgx_quote(
            report_data(claims),
            mrenclave=bytes.fromhex(changes.get("mrenclave", MEASURED[program])),
            mrsigner=bytes.fromhex(DEVELOPMENT_MRSIGNER),
            product_id=1,
            svn=1,
        )
        return Evidence(quote, collateral(self.root, int(time.time())), claims)


class Archive:
    """Answers the agents' API for one run. Set `receipts` and `signers` to what it shall show."""

    def __init__(self, server: Server, *receipts: SignedReceipt) -> None:
        self.receipts = list(receipts)
        self.signers: dict[str, Evidence] = {}
        server.answer = self

    def __call__(self, request: Request) -> Reply:
        path, _, query = request.path.partition("?")
        last = path.rsplit("/", 1)[1]
        if last == "receipts":
            after = int(query.removeprefix("after="))
            shown = [item for item in self.receipts if item.receipt.round > after]
            return Reply(body={"receipts": plain(shown)})
        if "/signers/" in path and last in self.signers:
            return Reply(body=plain(self.signers[last]))
        return Reply(404, body={"code": "receipt.no_signer", "message": "", "hint": "", "facts": {}})


def plain(value: Any) -> Any:
    """As it comes out of JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))


def approved(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest with changes, read back as strictly as everybody reads it."""
    from contracts.manifest import parse

    return parse(canonical(msgspec.structs.replace(manifest, **changes)))
