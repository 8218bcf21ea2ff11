"""The verifier: evidence in, appraisal out (RFC 9334). Coordinator, agents and enclaves use this same code.

It is pure over evidence, policy, time, expectation and floors: it reads no clock, file, environment or
network. Nonces and floors belong to its callers. It never raises on bad evidence: every way to fail is a
check that failed, and the first one decides the code.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

from attestation.certificates import crl_number
from attestation.checks import CHECKS, SIGNED, opinion
from attestation.checks.examination import INTEL_ROOT_SHA256, Examination, NotApplicable, Outcome
from attestation.floors import Floors
from attestation.identity import collateral_identity, quote_identity
from attestation.quote import Quote, Tee
from attestation.tcb import Evaluation
from contracts.evidence import Evidence, Expected
from contracts.policy import Policy
from contracts.refusal import Refusal

logger = logging.getLogger(__name__)

VERIFIER_VERSION = 2
SECOND_OPINION = ("second_opinion", opinion.agrees)

Step = tuple[str, Callable[[Examination], Outcome]]


class Check(Struct, frozen=True):
    """One check: what was expected and what was found, in words and values for people."""

    name: str
    outcome: Literal["pass", "fail", "not applicable"]
    expected: str
    found: str
    code: str | None


class Appraisal(Struct, frozen=True):
    """The verdict, and all that it rests on.

    `quote_sha256` and `collateral_sha256` name the evidence in the log: once its signatures hold they are
    over exactly what the signatures cover (`identity.py`), before that over the bytes as they came. They are
    no hashes of files. `measurement` is that of the report (`quote.py`) in hex. From `root_sha256` on: what
    `Floors.raised` needs. What the evidence did not get far enough to show is None.
    """

    verdict: Literal["accepted", "refused"]
    code: str | None
    checks: tuple[Check, ...]
    tee: Tee | None
    status: str | None
    advisories: tuple[str, ...]
    measurement: str | None
    development: bool
    quote_sha256: str
    collateral_sha256: str
    at: int
    root_sha256: str | None = None
    fmspc: str | None = None
    ca: str | None = None
    tcb_evaluation: int | None = None
    qe_evaluation: int | None = None
    root_ca_crl_number: int | None = None
    pck_crl_number: int | None = None
    verifier: int = VERIFIER_VERSION


def appraise(
    evidence: Evidence, policy: Policy, *, at: int, expected: Expected, floors: Floors | None = None
) -> Appraisal:
    """Judge evidence at Unix time `at`.

    `expected` is what the relying party asked for; where nobody asked there is `offline.appraise_offline`.
    Runs on the side of whoever is about to trust: no secret may be released to an enclave whose appraisal is
    not `accepted` (`require`).
    """
    return judge(
        Examination(
            quote_bytes=evidence.quote,
            collateral_fields=evidence.collateral,
            at=at,
            policy=policy,
            claims=evidence.claims,
            expected=expected,
            floors=floors or Floors(),
            event_log=evidence.event_log,
        ),
        [*CHECKS, SECOND_OPINION],
    )


def require(appraisal: Appraisal) -> None:
    """Pass only an accepted appraisal.

    Raises: the appraisal's code and the failed check's values.
    """
    if appraisal.verdict == "accepted":
        return
    failed = next(check for check in appraisal.checks if check.outcome == "fail")
    raise Refusal(
        str(appraisal.code), check=failed.name, expected=failed.expected[:500], found=failed.found[:500]
    )


def judge(e: Examination, steps: Iterable[Step]) -> Appraisal:
    """Run the steps in order up to the first that fails; those after it are not reached."""
    checks: list[Check] = []
    failed: Check | None = None
    for name, step in steps:
        if failed is not None:
            checks.append(Check(name, "not applicable", "", f"not reached: {failed.name} failed", None))
            continue
        checks.append(_run(name, step, e))
        failed = checks[-1] if checks[-1].code else None
    return _appraisal(e, checks, failed.code if failed else None)


def _run(name: str, step: Callable[[Examination], Outcome], e: Examination) -> Check:
    try:
        outcome = step(e)
    except Refusal as refusal:
        return _failed(name, refusal)
    except Exception:
        # Ours to fix, and no reason to trust anybody: an unforeseen fault refuses like any other.
        logger.exception("check %s failed in an unforeseen way", name)
        return Check(name, "fail", "", "the check itself failed", "attest.internal")
    if isinstance(outcome, NotApplicable):
        return Check(name, "not applicable", "", outcome.why, None)
    return Check(name, "pass", outcome.expected, outcome.found, None)


def _failed(name: str, refusal: Refusal) -> Check:
    facts = {key: str(value) for key, value in refusal.facts.items()}
    expected = facts.pop("expected", "")
    values = [facts.pop("what", ""), facts.pop("found", "")]
    return Check(name, "fail", expected, ": ".join(value for value in values if value), refusal.code)


def _appraisal(e: Examination, checks: list[Check], code: str | None) -> Appraisal:
    signed = any(check.name == SIGNED and check.outcome == "pass" for check in checks)
    quote: Quote | None = getattr(e, "quote", None)
    evaluation: Evaluation | None = getattr(e, "evaluation", None)
    return Appraisal(
        verdict="accepted" if code is None else "refused",
        code=code,
        checks=tuple(checks),
        tee=quote.tee if quote else None,
        status=evaluation.status if evaluation else None,
        advisories=evaluation.advisories if evaluation else (),
        measurement=quote.report.measurement if quote else None,
        development=e.root_sha256 != INTEL_ROOT_SHA256,
        quote_sha256=quote_identity(e.quote, e.pck_chain) if signed else _sha256(e.quote_bytes),
        collateral_sha256=collateral_identity(e.collateral) if signed else _sha256(_raw(e.collateral_fields)),
        at=e.at,
        root_sha256=e.root_sha256 if signed else None,
        fmspc=e.platform.fmspc.hex() if signed else None,
        ca=e.ca if signed else None,
        tcb_evaluation=e.tcb_info.tcb_evaluation_data_number if signed else None,
        qe_evaluation=e.qe_identity.tcb_evaluation_data_number if signed else None,
        root_ca_crl_number=crl_number(e.collateral.root_ca_crl) if signed else None,
        pck_crl_number=crl_number(e.collateral.pck_crl) if signed else None,
    )


def _raw(fields: dict[str, str]) -> bytes:
    return json.dumps(fields, sort_keys=True, default=str).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
