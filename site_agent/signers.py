"""Whose receipts count here: the keys of server enclaves of a run that this site has attested itself.

The coordinator brings the evidence and is not believed. For the enclave that a site works with, the evidence
answers a nonce of the site's own. Of an enclave that lived while the site was away it can only be what the
enclave showed then: keys die with their enclave, so an old proof says as much about whose key it was.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

from contracts.agents_api.runs import SIGNER
from contracts.canonical import digest
from contracts.course import server_of
from contracts.evidence import Claims, Evidence
from contracts.manifest import Manifest
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from site_agent.evidence import Verifier
from site_agent.files import create_private
from site_agent.state import State
from site_agent.transport import Coordinator


class KnownSigner(Struct, frozen=True, forbid_unknown_fields=True):
    """An attested key: the claims that bind it, and the SHA-256 of quote and collateral."""

    claims: Claims
    quote: str
    collateral: str


class Signers:
    """The attested signers of one run, a file for each; a restart of the agent forgets none."""

    def __init__(self, state: State, manifest: Manifest) -> None:
        self._folder, self._manifest = state.receipts / manifest.hash / "signers", manifest
        self._verifier = Verifier(manifest, server_of(manifest), state.folder)

    def enter(self, evidence: Evidence) -> None:
        """Its key is attested: evidence that this site has found good."""
        quote = hashlib.sha256(evidence.quote).hexdigest()
        signer = KnownSigner(evidence.claims, quote, digest(evidence.collateral))
        create_private(self._path(evidence.claims.signing_key), msgspec.json.encode(signer))

    def __contains__(self, key: str) -> bool:
        return self._path(key).exists()

    def require(self, key: str, coordinator: Coordinator) -> None:
        """That this key (hex) signs for a server enclave of this run. Asks for the evidence if it was never
        attested here.

        Raises: `receipt.unattested`, or an `agent.` code where the line is down.
        """
        if key in self:
            return
        try:
            shown = coordinator.ask(SIGNER, Nothing(), run=self._manifest.run, key=key).evidence
            evidence = self._verifier.evidence(shown, shown.claims.nonce)
            if evidence.claims.signing_key != key:
                raise Refusal("agent.bad_answer", fault="the evidence is of another enclave")
        except Refusal as refusal:
            if refusal.code.startswith("agent.") and refusal.code != "agent.bad_answer":
                raise
            facts = {**refusal.facts, "key": key[:16], "cause": refusal.code}
            raise Refusal("receipt.unattested", **facts) from refusal
        self.enter(evidence)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
