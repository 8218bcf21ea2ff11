"""What a run is, its receipts, and evidence of the enclaves that signed them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.agents_api.endpoint import Endpoint, SignedJson
from contracts.approvals import Approval
from contracts.evidence import Claims, EventLog, Evidence
from contracts.program_calls import Nothing

PAGE = 50
"""Receipts in an answer at most."""


class ManifestAnswer(Struct, frozen=True):
    """The frozen manifest's canonical text, and each site's approval of its hash."""

    manifest: str
    approvals: dict[str, Approval]


class ReceiptsAnswer(Struct, frozen=True):
    """Signed receipts (contracts/receipts.py) of published rounds, in their order: the first of those that
    were asked for."""

    receipts: Annotated[list[SignedJson], Meta(max_length=PAGE)]


class SignerAnswer(Struct, frozen=True):
    """Evidence that the coordinator has accepted of the enclave that signs with a key; in JSON `quote` is
    base64. Its nonce was the coordinator's, its collateral is of now."""

    quote: bytes
    collateral: dict[str, str]
    claims: Claims
    event_log: EventLog | None

    @property
    def evidence(self) -> Evidence:
        """The same."""
        return Evidence(self.quote, self.collateral, self.claims, self.event_log)


MANIFEST = Endpoint("GET", "runs/{run}/manifest", Nothing, ManifestAnswer)
RECEIPTS = Endpoint("GET", "runs/{run}/receipts", Nothing, ReceiptsAnswer)
"""In the query `after`, the last round that the site has."""
SIGNER = Endpoint("GET", "runs/{run}/signers/{key}", Nothing, SignerAnswer)
