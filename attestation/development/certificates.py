"""X.509 with the profile of Intel's SGX PKI: P-256, SHA-256, root → PCK CA → PCK, root → TCB signer.

Names differ on purpose: each says `MARK` in its common name and in its organisation. Signatures are
deterministic (RFC 6979), so the same question gets the same bytes.

Source: profile: Intel, "SGX PCK Certificate and Certificate Revocation List Profile Specification" 1.5.
"""

from __future__ import annotations

import secrets
from datetime import datetime

from asn1crypto import core
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestation.development_quoting import constants

SGX_EXTENSION = "1.2.840.113741.1.13.1"

ROOT_NAME = "SGX Root CA"
PCK_CA_NAME = "SGX PCK Platform CA"
TCB_SIGNING_NAME = "SGX TCB Signing"
PCK_NAME = "SGX PCK Certificate"


def name(role: str) -> x509.Name:
    """The distinguished name for a role. An ASCII hyphen stands in MARK: PrintableString can hold it too."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"{role} - {constants.MARK}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"FedSlice - {constants.MARK}"),
        ]
    )


def certificate(
    subject: str,
    public_key: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca_path_length: int | None = None,
    sgx_extension: bytes | None = None,
) -> x509.Certificate:
    """Issue one certificate. With `ca_path_length` it is a CA (certificate and CRL signing); without, a leaf
    that signs data. `sgx_extension` is the DER of Intel's extension, for a PCK leaf."""
    is_ca = ca_path_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public_key)
        .serial_number(int.from_bytes(secrets.token_bytes(19)) | 1)
        .not_valid_before(constants.NOT_BEFORE)
        .not_valid_after(constants.NOT_AFTER)
        .add_extension(_authority(issuer_key), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_usage(is_ca), critical=True)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=ca_path_length), critical=True)
    )
    if sgx_extension is not None:
        oid = x509.ObjectIdentifier(SGX_EXTENSION)
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, sgx_extension), critical=False)
    return builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True)


def revocation_list(
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    number: int,
    this_update: datetime,
    next_update: datetime,
    revoked: dict[int, datetime],
) -> bytes:
    """A complete CRL (RFC 5280 section 5) in DER. `revoked` maps serial numbers to revocation times."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer))
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority(issuer_key), critical=False)
    )
    for serial, when in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    signed = builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(Encoding.DER)


def sgx_extension(ppid: bytes, platform_instance: bytes) -> bytes:
    """Intel's extension of a PCK certificate issued by the platform CA (profile specification, table 3.4).

    ppid: 16 bytes; platform_instance: 16 bytes. The rest is the one development platform.
    """
    components = [(f"2.{i}", core.Integer(svn)) for i, svn in enumerate(constants.SGX_COMPONENTS, start=1)]
    tcb = [
        *components,
        ("2.17", core.Integer(constants.PCE_SVN)),
        ("2.18", core.OctetString(constants.SGX_COMPONENTS)),
    ]
    configuration = [(f"7.{i}", core.Boolean(True)) for i in (1, 2, 3)]
    fields = [
        ("1", core.OctetString(ppid)),
        ("2", _sequence(tcb)),
        ("3", core.OctetString(constants.PCE_ID)),
        ("4", core.OctetString(constants.FMSPC)),
        ("5", _Enumerated(constants.SGX_TYPE_SCALABLE)),
        ("6", core.OctetString(platform_instance)),
        ("7", _sequence(configuration)),
    ]
    return bytes(_sequence(fields).dump())


class _Pair(core.Sequence):
    _fields = [("id", core.ObjectIdentifier), ("value", core.Any)]


class _Pairs(core.SequenceOf):
    _child_spec = _Pair


class _Enumerated(core.Integer):
    tag = 10  # ENUMERATED (X.680); asn1crypto's own class wants a map of names


def _sequence(fields: list[tuple[str, core.Asn1Value]]) -> _Pairs:
    return _Pairs([_Pair({"id": f"{SGX_EXTENSION}.{suffix}", "value": value}) for suffix, value in fields])


def _authority(issuer_key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())


def _usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
