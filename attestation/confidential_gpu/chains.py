"""A GPU's certificates: root → authorities → the GPU's own, on P-384 with SHA-384 (RFC 5280, RFC 6960)."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from attestation.certificates import Certificate, check_period, common_name
from contracts.refusal import Refusal

CODE = "attest.gpu_chain"
MAX_CHAIN, MAX_PEM_BYTES, MAX_OCSP_BYTES = 6, 32 * 1024, 16 * 1024
# What `cryptography` raises on bytes that are not what they should be.
_FAULTS = (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.DuplicateExtension)


def load(pem: bytes) -> tuple[Certificate, ...]:
    """Leaf first.

    Raises: `attest.gpu_chain`.
    """
    try:
        chain = tuple(x509.load_pem_x509_certificates(pem[: MAX_PEM_BYTES + 1]))
        for certificate in chain:
            key_of(certificate)
            _ = certificate.extensions, certificate.subject, certificate.issuer
    except _FAULTS as error:
        raise Refusal(CODE, expected="a PEM chain", found="none") from error
    if not 2 <= len(chain) <= MAX_CHAIN or len(pem) > MAX_PEM_BYTES:
        raise Refusal(CODE, expected=f"2 to {MAX_CHAIN} certificates", found=f"{len(chain)}")
    return chain


def check(chain: tuple[Certificate, ...], at: int) -> None:
    """Raises: `attest.gpu_chain`, or as `check_period` does."""
    for place, certificate in enumerate(chain):
        check_period(certificate, at, "certificate of the GPU")
        issuer = chain[min(place + 1, len(chain) - 1)]
        if _is_authority(certificate) != (place > 0):
            raise Refusal(CODE, expected="authorities above, none below", found=common_name(certificate))
        _signed_by(issuer, certificate)


def check_not_revoked(chain: tuple[Certificate, ...], answers: tuple[bytes, ...], at: int) -> None:
    """Of each authority but the root, in order. The GPU's own certificate is made by the GPU itself, and no
    service knows it.

    Raises: `attest.gpu_revocation`.
    """
    asked = chain[1:-1]
    if len(answers) != len(asked):
        raise Refusal("attest.gpu_revocation", expected=f"{len(asked)} OCSP answers", found=str(len(answers)))
    for place, (certificate, der) in enumerate(zip(asked, answers, strict=True)):
        _good(certificate, chain[place + 2], der, datetime.fromtimestamp(at, UTC))


def key_of(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    """Raises: `attest.gpu_chain` for any but P-384."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Refusal(CODE, expected="keys on P-384", found=common_name(certificate))
    return key


def _good(certificate: Certificate, issuer: Certificate, der: bytes, now: datetime) -> None:
    def refused(found: str) -> Refusal:
        what = common_name(certificate)
        return Refusal("attest.gpu_revocation", expected=f"a fresh answer that {what} is good", found=found)

    if len(der) > MAX_OCSP_BYTES:
        raise refused("too large an answer")
    try:
        answer = ocsp.load_der_ocsp_response(der)
        if answer.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise refused("an error")
        responder = answer.certificates[0] if answer.certificates else issuer
        if responder != issuer:
            _signed_by(issuer, responder)
            usage = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            if ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
                raise refused("a responder without authority")
            if not responder.not_valid_before_utc <= now <= responder.not_valid_after_utc:
                raise refused("a responder out of its time")
        key_of(responder).verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA384()))
        if answer.serial_number != certificate.serial_number or answer.issuer_key_hash != _key_hash(
            issuer, answer.hash_algorithm
        ):
            raise refused("an answer about another certificate")
        if answer.certificate_status != ocsp.OCSPCertStatus.GOOD:
            raise refused(answer.certificate_status.name.lower())
        until = answer.next_update_utc
        if answer.this_update_utc > now or until is None or until <= now:
            raise refused("an answer out of its time")
    except (InvalidSignature, x509.ExtensionNotFound, *_FAULTS) as error:
        raise refused("no answer of its issuer") from error


def _key_hash(issuer: Certificate, algorithm: hashes.HashAlgorithm) -> bytes:
    """RFC 6960, 4.1.1: over the key's bits, without tag and length."""
    digest = hashes.Hash(algorithm)
    digest.update(key_of(issuer).public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    return digest.finalize()


def _signed_by(issuer: Certificate, certificate: Certificate) -> None:
    try:
        if not isinstance(certificate.signature_hash_algorithm, hashes.SHA384):
            raise ValueError
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *_FAULTS) as error:
        raise Refusal(
            CODE, expected=f"signed by {common_name(issuer)}", found=common_name(certificate)
        ) from error


def _is_authority(certificate: Certificate) -> bool:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return basic.ca and usage.key_cert_sign
