"""One examination: what came in, and what the checks establish on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from attestation.certificates import Certificate, common_name
from attestation.collateral import Collateral
from attestation.documents import PartLevel, QeIdentity, TcbInfo
from attestation.floors import Floor, Floors
from attestation.pck import Platform
from attestation.quote import Quote
from attestation.tcb import Evaluation
from contracts.evidence import Claims, Expected
from contracts.policy import Policy, Reference

# SHA-256 of the DER of Intel's SGX root CA, as published at
# https://certificates.trustedservices.intel.com/IntelSGXRootCA.der (valid 2018-05-21 to 2049-12-31).
INTEL_ROOT_SHA256 = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"


class Passed(NamedTuple):
    """A check that passed, with the two values that it compared, for people."""

    expected: str
    found: str


class NotApplicable(NamedTuple):
    """A check that has nothing to look at here, and why."""

    why: str


Outcome = Passed | NotApplicable


@dataclass
class Examination:
    """Inputs first; the rest is filled by the checks in their order, so a check may rely on earlier ones.

    `policy` None: judge only whether it is genuine evidence of a non-debug TEE under Intel's root. `expected`
    None: no relying party is at hand (offline), so nonce and binding are not applicable.
    """

    quote_bytes: bytes
    collateral_fields: dict[str, str]
    at: int
    policy: Policy | None = None
    claims: Claims | None = None
    expected: Expected | None = None
    floors: Floors = field(default_factory=Floors)
    event_log: str | None = None

    quote: Quote = field(init=False)
    collateral: Collateral = field(init=False)
    pck_chain: tuple[Certificate, ...] = field(init=False)
    tcb_info: TcbInfo = field(init=False)
    qe_identity: QeIdentity = field(init=False)
    platform: Platform = field(init=False)
    qe_level: PartLevel = field(init=False)
    evaluation: Evaluation = field(init=False)
    references: list[Reference] = field(init=False)

    @property
    def root_sha256(self) -> str:
        """The only accepted root."""
        return self.policy.root_sha256 if self.policy else INTEL_ROOT_SHA256

    @property
    def pck(self) -> Certificate:
        """The PCK certificate."""
        return self.pck_chain[0]

    @property
    def pck_ca(self) -> Certificate:
        """Its issuer."""
        return self.pck_chain[1]

    @property
    def root(self) -> Certificate:
        """The root certificate that came with the quote; equal to the accepted one once `root` has passed."""
        return self.pck_chain[-1]

    @property
    def floor(self) -> Floor:
        """What collateral for this platform must reach: what was seen, and what the policy names."""
        return self.floors.under(self.policy).of(self.root_sha256, self.platform.fmspc.hex(), self.ca)

    @property
    def ca(self) -> str:
        """Which PCK CA: `processor` or `platform`."""
        return "processor" if "Processor" in common_name(self.pck_ca) else "platform"
