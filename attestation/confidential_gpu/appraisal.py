"""The checks of a GPU, after those of the trust domain that it works for; what is not there is refused.

What came first holds by then: the quote is genuine, the program is the policy's, and the keys are its own. So
the claims are believed, and the GPU's nonce, which is made of them, ties its report to this very start of the
program and to the relying party's nonce.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestation.appraisal import SECOND_OPINION, Appraisal, judge
from attestation.certificates import Certificate, fingerprint
from attestation.checks import CHECKS
from attestation.checks.examination import Examination, Outcome, Passed
from attestation.confidential_gpu import chains
from attestation.confidential_gpu.evidence import GpuEvidence, GpuReference, nonce_for
from attestation.confidential_gpu.report import DRIVER_VERSION, GpuReport, read_report
from attestation.floors import Floors
from contracts.evidence import Evidence, Expected
from contracts.policy import Policy
from contracts.refusal import Refusal


@dataclass
class GpuExamination(Examination):
    """Beside the trust domain's evidence, the GPU's. `named` is the report's SHA-256 in hex as the trust
    domain says it: else a host could show another GPU's report than the one that the program looked at."""

    gpu: GpuEvidence | None = None
    reference: GpuReference | None = None
    named: str | None = None

    report: GpuReport = field(init=False)
    chain: tuple[Certificate, ...] = field(init=False)


def appraise_gpu(
    evidence: Evidence,
    gpu: GpuEvidence | None,
    policy: Policy,
    reference: GpuReference | None,
    *,
    named: str | None,
    at: int,
    expected: Expected,
    floors: Floors | None = None,
) -> Appraisal:
    """As `attestation.appraisal.appraise`, of a trust domain that works with a confidential GPU."""
    examination = GpuExamination(
        quote_bytes=evidence.quote,
        collateral_fields=evidence.collateral,
        at=at,
        policy=policy,
        claims=evidence.claims,
        expected=expected,
        floors=floors or Floors(),
        event_log=evidence.event_log,
        gpu=gpu,
        reference=reference,
        named=named,
    )
    return judge(examination, [*CHECKS, *GPU_CHECKS, SECOND_OPINION])


def _format(e: Examination) -> Outcome:
    """The report is one signed answer about all measurements, and the chain is whole."""
    e, gpu, _reference = _inputs(e)
    e.report, e.chain = read_report(gpu.report), chains.load(gpu.chain)
    return Passed("a signed SPDM 1.1 report", f"{len(e.report.measurements)} measurements")


def _named(e: Examination) -> Outcome:
    """The trust domain has looked at this report, and says so in what its quote signs."""
    e, gpu, _reference = _inputs(e)
    found = sha256(gpu.report).hexdigest()
    if e.named is None or not hmac.compare_digest(e.named, found):
        raise Refusal("attest.gpu_named", expected=e.named or "a report that the claims name", found=found)
    return Passed(e.named, found)


def _root(e: Examination) -> Outcome:
    """The chain ends in the one root that the reference names."""
    e, _gpu, reference = _inputs(e)
    found = fingerprint(e.chain[-1])
    if found != reference.root_sha256:
        raise Refusal("attest.gpu_root", expected=reference.root_sha256, found=found)
    return Passed(reference.root_sha256, found)


def _chain(e: Examination) -> Outcome:
    """Each certificate is signed by the next, which is an authority, and is in its time."""
    e, _gpu, _reference = _inputs(e)
    chains.check(e.chain, e.at)
    return Passed("each signed by the next", f"{len(e.chain)} certificates")


def _revocation(e: Examination) -> Outcome:
    """For each authority below the root there is a fresh answer, by its issuer's word, that it is good."""
    e, gpu, _reference = _inputs(e)
    chains.check_not_revoked(e.chain, gpu.ocsp, e.at)
    return Passed("none revoked", f"{len(gpu.ocsp)} answers")


def _nonce(e: Examination) -> Outcome:
    """The GPU was asked by this start of the program, for this relying party."""
    e, _gpu, _reference = _inputs(e)
    if e.claims is None:
        raise Refusal("attest.gpu_nonce", expected="a nonce of the claims", found="no claims")
    expected = nonce_for(e.claims)
    if not hmac.compare_digest(expected, e.report.nonce):
        raise Refusal("attest.gpu_nonce", expected=expected.hex(), found=e.report.nonce.hex())
    return Passed(expected.hex(), e.report.nonce.hex())


def _signature(e: Examination) -> Outcome:
    """The GPU's own key has signed request and answer."""
    e, _gpu, _reference = _inputs(e)
    half = len(e.report.signature) // 2
    r, s = int.from_bytes(e.report.signature[:half]), int.from_bytes(e.report.signature[half:])
    try:
        key = chains.key_of(e.chain[0])
        key.verify(encode_dss_signature(r, s), e.report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise Refusal("attest.gpu_signature", expected="signed by the GPU", found="not signed") from error
    return Passed("signed by the GPU", "signed by the GPU")


def _versions(e: Examination) -> Outcome:
    """Driver and VBIOS are those of the reference."""
    e, _gpu, reference = _inputs(e)
    expected = f"driver {reference.driver}, VBIOS {reference.vbios}"
    found = f"driver {e.report.text(DRIVER_VERSION)}, VBIOS {e.report.vbios}"
    if found != expected:
        raise Refusal("attest.gpu_versions", expected=expected, found=found)
    return Passed(expected, found)


def _measurements(e: Examination) -> Outcome:
    """Each measurement of the reference is in the report, with a digest that counts. In a GPU whose mode for
    developers is on, or whose confidential mode is off, they differ."""
    e, _gpu, reference = _inputs(e)
    if not reference.measurements:
        raise Refusal("attest.gpu_measurement", expected="a reference with measurements", found="none")
    for index, accepted in reference.measurements.items():
        found = e.report.measurements.get(index, b"").hex() or "none"
        if found not in accepted:
            expected = f"measurement {index}: {' or '.join(accepted)}"
            raise Refusal("attest.gpu_measurement", expected=expected, found=found)
    return Passed(f"{len(reference.measurements)} measurements", "all as they are to be")


def _inputs(e: Examination) -> tuple[GpuExamination, GpuEvidence, GpuReference]:
    if not isinstance(e, GpuExamination) or e.gpu is None:
        raise Refusal("attest.gpu_missing", expected="evidence of a confidential GPU", found="none")
    if e.reference is None:
        raise Refusal("attest.gpu_missing", expected="a reference for the GPU", found="none")
    return e, e.gpu, e.reference


GPU_CHECKS: tuple[tuple[str, Callable[[Examination], Outcome]], ...] = (
    ("gpu.format", _format),
    ("gpu.named", _named),
    ("gpu.root", _root),
    ("gpu.chain", _chain),
    ("gpu.revocation", _revocation),
    ("gpu.nonce", _nonce),
    ("gpu.signature", _signature),
    ("gpu.versions", _versions),
    ("gpu.measurements", _measurements),
)
