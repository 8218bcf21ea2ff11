"""Who an enclave is: one manifest for as long as it runs, keys drawn inside, and evidence for both."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from attestation.own_quote import read_own
from attestation.sources import Source
from contracts.approvals import Approval, verify_approvals
from contracts.evidence import Claims, report_data
from contracts.manifest import Manifest, parse
from contracts.policy import Program
from contracts.program_calls import ShownEvidence
from contracts.refusal import Refusal
from contracts.sealed.hpke import HpkeKey
from contracts.signing import SigningKey
from enclave.programs.clock import Clock

# A manifest's runtime -> the source of evidence that stands for it. Gramine without SGX proves no more than
# an ordinary process does.
SOURCES = {"development": "development", "direct": "development", "sgx": "sgx", "tdx": "tdx"}


@dataclass(frozen=True)
class Identity:
    """A bound enclave. The private keys exist only here, in its memory, and die with the process. It
    counts every minimum by `approvals` (contracts/counting.py)."""

    program: Program
    source: Source
    manifest: Manifest
    manifest_hash: str
    clock: Clock
    hpke: HpkeKey
    signing: SigningKey
    measurement: str
    approvals: dict[str, Approval] = field(default_factory=dict)

    def claims(self, nonce: str) -> Claims:
        """What a quote for this relying party's nonce binds."""
        return Claims(nonce, self.hpke.public, self.signing.public, self.manifest_hash, self.program)

    def evidence(self, nonce: str) -> ShownEvidence:
        """The quote, and what it binds."""
        claims = self.claims(nonce)
        return ShownEvidence(self.source.quote(report_data(claims)), claims, self.source.event_log())


def bind(program: Program, source: Source, manifest_text: str, approvals: dict[str, Approval]) -> Identity:
    """Bind to a run: the manifest must be canonical, for this runtime, of a time that has come, and approved
    by every one of its sites with the key that it lists. Only then are keys drawn.

    Raises: `manifest.*`, `approval.online_key`, `program.wrong_runtime`, `program.clock_below_floor`.
    """
    manifest = parse(manifest_text.encode())
    if SOURCES[manifest.runtime] != source.name:
        raise Refusal("program.wrong_runtime", expected=manifest.runtime, found=source.name)
    verify_approvals(manifest, approvals)
    clock = Clock(manifest.minimum_time)
    clock.now()
    keys = HpkeKey.generate(), SigningKey.generate()
    known = own_measurement(source), approvals
    return Identity(program, source, manifest, manifest.hash, clock, *keys, *known)


def own_measurement(source: Source) -> str:
    """What a quote by this TEE says that this program is, in hex (`attestation.quote`)."""
    return read_own(source.quote(secrets.token_bytes(64))).measurement
