"""A confidential GPU beside a trust domain: made evidence of NVIDIA's form; whatever is missing is refused.

By hand, the report and chain that NVIDIA/nvtrust brings as samples were read and their signature held.
"""

from __future__ import annotations

import datetime
import struct
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

from attestation.confidential_gpu import GPU_CHECKS, GpuEvidence, GpuReference, appraise_gpu, nonce_for
from attestation.confidential_gpu.report import read_report
from contracts.evidence import Evidence
from contracts.refusal import Refusal
from error_catalogue import explain
from tests.attest.workshop import AT, CLAIMS, EVENT_LOG, EXPECTED

NAMES = ("GH100 A01 GSP", "GH100 BROM", "GH100 Identity", "Device Identity CA")
DIGESTS = {index: bytes([index]) * 48 for index in (1, 2, 3)}
NOW = datetime.datetime.fromtimestamp(AT, datetime.UTC)
DAY = datetime.timedelta(days=1)


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class Maker:
    """NVIDIA, as far as a test can be: a root, two authorities, a GPU's own key, and who answers for them."""

    def __init__(self) -> None:
        self.keys = [ec.generate_private_key(ec.SECP384R1()) for _ in NAMES]
        self.chain = [self.certificate(place) for place in range(len(NAMES))]

    def certificate(self, place: int, issuer: int | None = None, key: int | None = None) -> x509.Certificate:
        above = min(place + 1, len(NAMES) - 1)
        own = self.keys[place if key is None else key].public_key()
        usage = x509.KeyUsage(place == 0, False, False, False, False, place > 0, place > 0, False, False)
        builder = (
            x509.CertificateBuilder(named(NAMES[above]), named(NAMES[place]), own)
            .serial_number(place + 1)
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(usage, critical=True)
        )
        if place:
            builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        return builder.sign(self.keys[above if issuer is None else issuer], hashes.SHA384())

    def pem(self) -> bytes:
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    def answer(self, place: int, status=ocsp.OCSPCertStatus.GOOD, until=DAY, impostor: bool = False) -> bytes:
        good = status == ocsp.OCSPCertStatus.GOOD
        above = self.chain[place + 1]
        # An impostor has the issuer's name, and another key.
        signer = 0 if impostor else place + 1
        builder = ocsp.OCSPResponseBuilder().add_response(
            self.chain[place], above, hashes.SHA256(), status, NOW - DAY, NOW + until,
            None if good else NOW - DAY, None,
        ).responder_id(ocsp.OCSPResponderEncoding.NAME, self.certificate(place + 1, key=signer))  # fmt: skip
        return builder.sign(self.keys[signer], hashes.SHA384()).public_bytes(Encoding.DER)

    def report(self, nonce=None, digests=None, driver=b"550.90.07", key: int = 0) -> bytes:
        record = b"".join(
            struct.pack("<BBHBH", index, 1, len(digest) + 3, 1, len(digest)) + digest
            for index, digest in (DIGESTS if digests is None else digests).items()
        )
        pieces = {3: driver + b"\0", 6: bytes.fromhex("009f009601000000")}
        opaque = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in pieces.items())
        signed = b"".join(
            [
                bytes([0x11, 0xE0, 1, 0xFF]) + (nonce or nonce_for(CLAIMS)) + b"\0",
                bytes([0x11, 0x60, 0, 0, len(digests or DIGESTS)]) + len(record).to_bytes(3, "little"),
                record + bytes(32) + struct.pack("<H", len(opaque)) + opaque,
            ]
        )
        r, s = decode_dss_signature(self.keys[key].sign(signed, ec.ECDSA(hashes.SHA384())))
        return signed + r.to_bytes(48) + s.to_bytes(48)

    def evidence(self, **report) -> GpuEvidence:
        return GpuEvidence(self.report(**report), self.pem(), (self.answer(1), self.answer(2)))

    def reference(self) -> GpuReference:
        measurements = {index: (digest.hex(),) for index, digest in DIGESTS.items()}
        root = sha256(self.chain[-1].public_bytes(Encoding.DER)).hexdigest()
        return GpuReference("550.90.07", "96.00.9F.00.01", measurements, root)


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker()


@pytest.fixture
def judged(workshop, maker):
    """The appraisal of a genuine trust domain with this GPU beside it."""

    def judged(gpu, reference="made", named="shown"):
        evidence = Evidence(workshop.quote("tdx").encode(), workshop.collateral("tdx"), CLAIMS, EVENT_LOG)
        shown = None if gpu is None else sha256(gpu.report).hexdigest()
        return appraise_gpu(
            evidence, gpu, workshop.policy(), maker.reference() if reference == "made" else reference,
            named=shown if named == "shown" else named, at=AT, expected=EXPECTED,
        )  # fmt: skip

    return judged


def test_a_gpu_that_shows_everything_passes_the_same_checks_and_then_its_own(judged, maker):
    appraisal = judged(maker.evidence())
    assert appraisal.verdict == "accepted", appraisal.code
    names = [check.name for check in appraisal.checks]
    assert names[-len(GPU_CHECKS) - 2 : -1] == ["report_data", *(name for name, _check in GPU_CHECKS)]
    assert {check.outcome for check in appraisal.checks if check.name.startswith("gpu.")} == {"pass"}


def test_what_is_missing_is_refused(judged, maker):
    whole = maker.evidence()
    assert judged(None).code == "attest.gpu_missing"
    assert judged(whole, reference=None).code == "attest.gpu_missing"
    assert judged(whole, named=None).code == "attest.gpu_named"
    assert judged(replace(whole, ocsp=())).code == "attest.gpu_revocation"
    assert (
        judged(whole, reference=replace(maker.reference(), measurements={})).code == "attest.gpu_measurement"
    )
    assert judged(maker.evidence(digests={1: DIGESTS[1], 2: DIGESTS[2]})).code == "attest.gpu_measurement"
    assert judged(replace(whole, chain=b"")).code == "attest.gpu_chain"
    assert judged(replace(whole, report=b"")).code == "attest.gpu_malformed"


def test_what_is_another_gpus_or_anothers_word_is_refused(judged, maker):
    whole = maker.evidence()
    assert judged(whole, named="00" * 32).code == "attest.gpu_named"
    assert judged(maker.evidence(nonce=bytes(32))).code == "attest.gpu_nonce"
    assert judged(maker.evidence(key=1)).code == "attest.gpu_signature"
    assert judged(maker.evidence(digests=DIGESTS | {2: bytes(48)})).code == "attest.gpu_measurement"
    assert judged(maker.evidence(driver=b"535.1")).code == "attest.gpu_versions"
    assert (
        judged(whole, reference=replace(maker.reference(), root_sha256="00" * 32)).code == "attest.gpu_root"
    )
    # The GPU's certificate signed by the root, and a leaf as an authority.
    for chain in ([maker.certificate(0, issuer=3), *maker.chain[1:]], [maker.chain[0], *maker.chain]):
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
        assert judged(replace(whole, chain=pem)).code == "attest.gpu_chain"


@pytest.mark.parametrize(
    "answer",
    [
        {"status": ocsp.OCSPCertStatus.REVOKED},
        {"until": -DAY / 2},
        {"impostor": True},
    ],
)
def test_an_authority_that_nobody_entitled_calls_good_today_is_refused(judged, maker, answer):
    bad = replace(maker.evidence(), ocsp=(maker.answer(1), maker.answer(2, **answer)))
    assert judged(bad).code == "attest.gpu_revocation"
    swapped = replace(maker.evidence(), ocsp=(maker.answer(2), maker.answer(1)))
    assert judged(swapped).code == "attest.gpu_revocation"


def test_a_report_cut_or_lengthened_anywhere_is_refused(maker):
    whole = maker.report()
    assert read_report(whole).measurements == DIGESTS
    for data in (*(whole[:size] for size in range(len(whole))), whole + b"\0"):
        with pytest.raises(Refusal) as caught:
            read_report(data)
        assert caught.value.code == "attest.gpu_malformed"
        assert explain(caught.value.code, caught.value.facts).message
