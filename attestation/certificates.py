"""X.509 certificates and CRLs as Intel's SGX PKI uses them, on `cryptography`.

Root → PCK CA → PCK and root → TCB signer, all on P-256 with SHA-256. Each function checks one thing and
refuses with a code that names it; `what` says in words which certificate or list it was.

Source: profile: Intel, "SGX PCK Certificate and Certificate Revocation List Profile Specification"; rules:
RFC 5280.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from contracts.refusal import Refusal

E = TypeVar("E", bound=x509.ExtensionType)

Certificate = x509.Certificate
Crl = x509.CertificateRevocationList

MAX_PEM_BYTES = 32 * 1024
MAX_CHAIN = 4

_ECDSA_SHA256 = x509.oid.SignatureAlgorithmOID.ECDSA_WITH_SHA256
_UNDERSTOOD = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
# What `cryptography` raises on bytes that are not what they should be.
_FAULTS = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def load_chain(pem: bytes, what: str) -> tuple[Certificate, ...]:
    """The certificates of a PEM text, leaf first. White space is free; anything else must be a certificate.

    A quote's chain may end in NUL bytes.

    Raises: `attest.certificate_malformed`.
    """
    text = pem.rstrip(b"\0")
    if len(text) > MAX_PEM_BYTES:
        raise Refusal("attest.certificate_malformed", what=what, found="the chain is too large")
    try:
        chain = tuple(_whole(certificate) for certificate in x509.load_pem_x509_certificates(text))
        canonical = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
    except _FAULTS as error:
        raise Refusal("attest.certificate_malformed", what=what, found="it is no PEM chain") from error
    if len(chain) > MAX_CHAIN or _squeezed(canonical) != _squeezed(text):
        raise Refusal("attest.certificate_malformed", what=what, found="there is more than certificates")
    return chain


def load_crl(der: bytes, what: str) -> Crl:
    """One CRL in DER.

    Raises: `attest.crl_malformed`.
    """
    try:
        crl = x509.load_der_x509_crl(der)
        _ = crl.issuer, crl.extensions, crl.next_update_utc, crl.last_update_utc, crl.signature_algorithm_oid
    except _FAULTS as error:
        raise Refusal("attest.crl_malformed", what=what, found="it is no CRL in DER") from error
    return crl


def check_issued(certificate: Certificate, issuer: Certificate, what: str) -> None:
    """`issuer` names, and its key signed, `certificate`.

    Raises: `attest.chain_broken`.
    """
    if not _links(certificate, issuer):
        raise Refusal(
            "attest.chain_broken",
            what=what,
            expected=f"issued by {common_name(issuer)}",
            found=f"names {_rdn(certificate.issuer)}, and that key did not sign it",
        )


def check_authority(certificate: Certificate, role: str, what: str) -> None:
    """A CA for certificates and CRLs, named for its role.

    Raises: `attest.certificate_role`.
    """
    _check_role(certificate, role, what, authority=True)


def check_end_entity(certificate: Certificate, role: str, what: str) -> None:
    """A leaf that may sign data only, named for its role.

    Raises: `attest.certificate_role`.
    """
    _check_role(certificate, role, what, authority=False)


def check_period(certificate: Certificate, at: int, what: str) -> None:
    """notBefore ≤ at ≤ notAfter (RFC 5280, 4.1.2.5).

    Raises: `attest.certificate_not_yet_valid` or `attest.certificate_expired`.
    """
    start, end = _seconds(certificate.not_valid_before_utc), _seconds(certificate.not_valid_after_utc)
    if at < start:
        raise Refusal("attest.certificate_not_yet_valid", what=what, **window(start, end, at))
    if at > end:
        raise Refusal("attest.certificate_expired", what=what, **window(start, end, at))


def check_crl(crl: Crl, issuer: Certificate, at: int, what: str) -> None:
    """Complete, signed by `issuer`, and thisUpdate ≤ at < nextUpdate.

    Raises: `attest.crl_issuer`, `attest.crl_not_yet_valid` or `attest.crl_expired`.
    """
    if not _signs_list(issuer, crl):
        raise Refusal(
            "attest.crl_issuer",
            what=what,
            expected=f"signed by {common_name(issuer)}",
            found=f"names {_rdn(crl.issuer)}, and that key did not sign it",
        )
    start = _seconds(crl.last_update_utc)
    end = _seconds(crl.next_update_utc) if crl.next_update_utc else start
    if at < start:
        raise Refusal("attest.crl_not_yet_valid", what=what, **window(start, end, at))
    if at >= end:
        raise Refusal("attest.crl_expired", what=what, **window(start, end, at))


def check_not_revoked(certificate: Certificate, crl: Crl, what: str) -> None:
    """The list does not name the certificate's serial number.

    Raises: `attest.revoked`.
    """
    serial = certificate.serial_number
    if crl.get_revoked_certificate_by_serial_number(serial) is not None:
        raise Refusal(
            "attest.revoked",
            what=what,
            expected="not on the list",
            found=f"serial {serial:x} is on it",
        )


def crl_number(crl: Crl) -> int:
    """The CRL's number (RFC 5280, 5.2.3); 0 where it has none."""
    number = _extension(crl, x509.CRLNumber)
    return number.crl_number if number else 0


def verify_raw(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """ECDSA P-256 with SHA-256; the signature is r ‖ s, 64 bytes big-endian."""
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return len(signature) == 64


def raw_key(point: bytes) -> ec.EllipticCurvePublicKey | None:
    """The P-256 key at x ‖ y (64 bytes big-endian), or None where no point of the curve is."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)
    except ValueError:
        return None


def p256_key(certificate: Certificate, what: str) -> ec.EllipticCurvePublicKey:
    """The certificate's key.

    Raises: `attest.certificate_malformed` for any but P-256.
    """
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refusal("attest.certificate_malformed", what=what, found="its key is not on P-256")
    return key


def same_authority(one: Certificate, other: Certificate, what: str) -> bool:
    """Same name and same key: Intel may issue a CA's certificate again."""
    return one.subject == other.subject and p256_key(one, what) == p256_key(other, what)


def fingerprint(certificate: Certificate) -> str:
    """SHA-256 of the DER, hex."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def common_name(certificate: Certificate) -> str:
    """The subject's common name; empty where there is none."""
    return _rdn(certificate.subject)


def window(start: int, end: int, at: int) -> dict[str, str]:
    """The facts of a check of dates: Unix seconds in, ISO times out."""
    return {"expected": f"{iso(start)} to {iso(end)}", "found": iso(at)}


def iso(at: int) -> str:
    """A Unix time for people; the number itself where no calendar reaches."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"Unix time {at}"


def _check_role(certificate: Certificate, role: str, what: str, *, authority: bool) -> None:
    basic = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if basic is None or usage is None:
        may_sign = False
    elif authority:
        may_sign = basic.ca and usage.key_cert_sign and usage.crl_sign
    else:
        may_sign = usage.digital_signature and not (basic.ca or usage.key_cert_sign or usage.crl_sign)
    understood = all(not e.critical or e.oid in _UNDERSTOOD for e in certificate.extensions)
    if not (may_sign and understood and role in common_name(certificate)):
        raise Refusal(
            "attest.certificate_role",
            what=what,
            expected=f"{role}, which may sign {'certificates' if authority else 'data only'}",
            found=common_name(certificate) or "a certificate without a name",
        )
    p256_key(certificate, what)


def _links(certificate: Certificate, issuer: Certificate) -> bool:
    if certificate.signature_algorithm_oid != _ECDSA_SHA256:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *_FAULTS):  # ValueError: another name, or algorithms that differ inside and out
        return False
    return True


def _signs_list(issuer: Certificate, crl: Crl) -> bool:
    key = issuer.public_key()
    return (
        crl.issuer == issuer.subject
        and crl.signature_algorithm_oid == _ECDSA_SHA256
        and isinstance(key, ec.EllipticCurvePublicKey)
        and crl.is_signature_valid(key)
        # A critical extension would make it a partial list (delta, or limited to some reasons).
        and not any(extension.critical for extension in crl.extensions)
    )


def _extension(signed: Certificate | Crl, kind: type[E]) -> E | None:
    try:
        return signed.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _whole(certificate: Certificate) -> Certificate:
    """`cryptography` decodes a certificate part by part, when asked; a fault must show here and not later."""
    _ = certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key()
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.signature_algorithm_oid
    return certificate


def _rdn(name: x509.Name) -> str:
    values = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(values[0].value) if values else ""


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _squeezed(text: bytes) -> bytes:
    return b"".join(text.split())
