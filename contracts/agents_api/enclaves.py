"""The way to a run's server enclave: its evidence, and showing it one's own."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from contracts.agents_api.endpoint import Endpoint
from contracts.commitment import Committed, Held
from contracts.evidence import Claims, EventLog, Evidence
from contracts.policy import Hex32
from contracts.program_calls import Challenge, Nothing
from contracts.receipts import Hex64


class NonceBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The relying party's own fresh nonce (32 bytes in hex). `epoch` says which of the run's enclaves is
    meant where several live: one may serve while another releases."""

    nonce: Hex32
    epoch: Annotated[int, Meta(ge=1, lt=2**31)] | None = None


class EvidenceAnswer(Struct, frozen=True):
    """Evidence of the server enclave; in JSON `quote` is base64. `enclave` and `epoch` name the one that gave
    it."""

    quote: bytes
    collateral: dict[str, str]
    claims: Claims
    event_log: EventLog | None
    enclave: str
    epoch: int

    @classmethod
    def of(cls, shown: Evidence, enclave: str, epoch: int) -> EvidenceAnswer:
        """That of the run's `epoch`-th enclave."""
        return cls(shown.quote, shown.collateral, shown.claims, shown.event_log, enclave, epoch)

    @property
    def evidence(self) -> Evidence:
        """It alone."""
        return Evidence(self.quote, self.collateral, self.claims, self.event_log)


class AdmitBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Evidence of the site's client slice, the site key's endorsement of its claims (hex), and, in a run with
    a public front, the features that the slice has committed to."""

    evidence: Evidence
    endorsement: Hex64
    features: Committed | None = None


class VerdictAnswer(Struct, frozen=True):
    """The server enclave's own verdict. A refusal is an error body with the code of the failed check. `held`
    is what it answers to features that were committed to."""

    verdict: Literal["accepted"]
    code: None
    held: Held | None


EVIDENCE = Endpoint("POST", "runs/{run}/aggregator/evidence", NonceBody, EvidenceAnswer)
CHALLENGE = Endpoint("POST", "runs/{run}/aggregator/challenge", Nothing, Challenge)
ADMIT = Endpoint("POST", "runs/{run}/aggregator/admit", AdmitBody, VerdictAnswer)
SERVING_EVIDENCE = Endpoint("POST", "runs/{run}/serving/evidence", NonceBody, EvidenceAnswer)
