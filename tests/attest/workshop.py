"""A development installation whose every piece a test may change and sign again, as a forger with keys could.

The pieces are real: `attestation.development` makes them, and the verifier sees them as it sees Intel's.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation import development
from attestation.appraisal import Appraisal, appraise
from attestation.development import certificates as pki
from attestation.development.root import open_root
from attestation.development_quoting.keys import raw_signature
from attestation.floors import Floors
from attestation.quote import Quote, parse
from contracts.canonical import canonical
from contracts.evidence import Claims, Evidence, Expected, report_data
from contracts.launch import launch, rtmr3_after
from contracts.policy import Policy, Reference, SgxReference, TdxReference

AT = 1_800_000_000
MRENCLAVE, MRSIGNER = b"\xe1" * 32, b"\x51" * 32
PRODUCT, SVN = 7, 3
MRTD = b"\x7d" * 48
LAUNCH = launch("aggregator", "1e" * 32, "2f" * 32)
EVENT_LOG = canonical(LAUNCH).decode() + "\n"
RTMRS = (*(bytes([n]) * 48 for n in range(3)), rtmr3_after(LAUNCH.digest))

CLAIMS = Claims(
    nonce="11" * 32, hpke_key="22" * 1216, signing_key="33" * 32, manifest="44" * 32, program="aggregator"
)
EXPECTED = Expected(CLAIMS.nonce, CLAIMS.manifest, CLAIMS.program)
SGX = SgxReference("aggregator", mrenclave=MRENCLAVE.hex())
TDX = TdxReference("aggregator", mrtd=MRTD.hex(), rtmrs=tuple(register.hex() for register in RTMRS))


class Workshop:
    def __init__(self, folder: Path) -> None:
        self.root_folder, host = folder / "root", folder / "host"
        development.create_root(self.root_folder)
        self.chain = development.issue_platform(self.root_folder, development.create_platform(host))
        development.install_platform(host, self.chain)
        self.platform = development.load_platform(host)
        self.root = open_root(self.root_folder)
        self.root_sha256 = development.root_sha256(self.root_folder)

    def quote(self, tee: str = "sgx", claims: Claims = CLAIMS) -> Quote:
        data = report_data(claims)
        if tee == "sgx":
            raw = self.platform.sgx_quote(
                data, mrenclave=MRENCLAVE, mrsigner=MRSIGNER, product_id=PRODUCT, svn=SVN
            )
        else:
            raw = self.platform.tdx_quote(data, mrtd=MRTD, rtmrs=RTMRS)
        return parse(raw)

    def resigned(self, quote: Quote, **report: Any) -> Quote:
        """The quote with fields of its report changed, signed by the attestation key."""
        changed = replace(quote, report=quote.report._replace(**report))
        signature = raw_signature(self.platform.signer.attestation_key, changed.signed)
        return replace(changed, signature=signature)

    def with_qe(self, quote: Quote, *, auth_data: bytes | None = None, **report: Any) -> Quote:
        """The quote with its quoting enclave changed, vouched for by the PCK."""
        auth_data = quote.qe_auth_data if auth_data is None else auth_data
        digest = hashlib.sha256(quote.attestation_key + auth_data).digest() + bytes(32)
        qe = quote.qe_report._replace(**{"report_data": digest, **report})
        signature = raw_signature(self.platform.signer.pck_key, qe.encode())
        return replace(quote, qe_report=qe, qe_signature=signature, qe_auth_data=auth_data)

    def collateral(self, tee: str = "sgx", at: int = AT) -> dict[str, str]:
        return development.collateral(self.root_folder, at, tee)

    def document(
        self,
        name: str,
        change: Callable[[dict[str, Any]], object],
        *,
        tee: str = "sgx",
        base: dict[str, str] | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> dict[str, str]:
        """Collateral whose tcb_info or qe_identity was changed in place and signed again."""
        fields = dict(base or self.collateral(tee))
        value = json.loads(fields[name])
        change(value)
        text = json.dumps(value, separators=(",", ":"))
        signature = raw_signature(key or self.root.tcb_signing.key, text.encode())
        return fields | {name: text, f"{name}_signature": signature.hex()}

    def crl(
        self,
        name: str,
        *,
        signer: str | None = None,
        number: int = 1,
        start: int = AT - 3600,
        end: int = AT + 3600,
        revoked: tuple[int, ...] = (),
    ) -> str:
        """A CRL, in hex: `name` root_ca_crl or pck_crl; `signer` root or pck_ca, its own by default."""
        signer = signer or ("root" if name == "root_ca_crl" else "pck_ca")
        authority = getattr(self.root, signer)
        issuer = pki.ROOT_NAME if signer == "root" else pki.PCK_CA_NAME
        der = pki.revocation_list(
            issuer,
            authority.key,
            number=number,
            this_update=datetime.fromtimestamp(start, UTC),
            next_update=datetime.fromtimestamp(end, UTC),
            revoked={serial: datetime.fromtimestamp(start, UTC) for serial in revoked},
        )
        return der.hex()

    def certificate(self, role: str, key: ec.EllipticCurvePublicKey, signer: str, **options: Any) -> bytes:
        """One certificate in PEM, issued by `signer` (root or pck_ca)."""
        issuer = pki.ROOT_NAME if signer == "root" else pki.PCK_CA_NAME
        made = pki.certificate(role, key, issuer, getattr(self.root, signer).key, **options)
        return made.public_bytes(Encoding.PEM)

    def reissued(
        self,
        old: x509.Certificate,
        signer: str,
        *,
        start: datetime | None = None,
        key: ec.EllipticCurvePublicKey | None = None,
        extra: x509.Extension | None = None,
        algorithm: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        """The certificate in PEM, issued once more with something changed."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(old.subject)
            .issuer_name(old.issuer)
            .public_key(key or old.public_key())
            .serial_number(old.serial_number)
            .not_valid_before(start or old.not_valid_before_utc)
            .not_valid_after(old.not_valid_after_utc)
        )
        for extension in [*old.extensions, *([extra] if extra else [])]:
            builder = builder.add_extension(extension.value, extension.critical)
        authority = getattr(self.root, signer).key
        return builder.sign(authority, algorithm or hashes.SHA256()).public_bytes(Encoding.PEM)

    def partial_crl(self) -> str:
        """A PCK CRL, in hex, that says it only speaks of some reasons for revocation."""
        scope = x509.IssuingDistributionPoint(
            full_name=None,
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=False,
            only_some_reasons=frozenset([x509.ReasonFlags.superseded]),
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.root.pck_ca.certificate.subject)
            .last_update(datetime.fromtimestamp(AT - 60, UTC))
            .next_update(datetime.fromtimestamp(AT + 60, UTC))
            .add_extension(scope, critical=True)
        )
        return builder.sign(self.root.pck_ca.key, hashes.SHA256()).public_bytes(Encoding.DER).hex()

    @property
    def links(self) -> list[bytes]:
        """PCK, PCK CA and root, each in PEM."""
        certificates = x509.load_pem_x509_certificates(self.chain)
        return [certificate.public_bytes(Encoding.PEM) for certificate in certificates]

    @property
    def pck(self) -> x509.Certificate:
        return x509.load_pem_x509_certificates(self.chain)[0]

    def policy(self, *references: Reference, **options: Any) -> Policy:
        return Policy(
            options.pop("root", "development"),
            options.pop("root_sha256", self.root_sha256),
            references or (SGX, TDX),
            **options,
        )

    def appraise(
        self,
        quote: Quote | bytes | None = None,
        collateral: dict[str, str] | None = None,
        *,
        tee: str = "sgx",
        policy: Policy | None = None,
        at: int = AT,
        claims: Claims = CLAIMS,
        expected: Expected = EXPECTED,
        floors: Floors | None = None,
        event_log: str | None = EVENT_LOG,
    ) -> Appraisal:
        """The verdict; whatever is not given is as it should be."""
        quote = self.quote(tee) if quote is None else quote
        raw = quote.encode() if isinstance(quote, Quote) else quote
        fields = self.collateral(tee) if collateral is None else collateral
        return appraise(
            Evidence(raw, fields, claims, event_log),
            policy or self.policy(),
            at=at,
            expected=expected,
            floors=floors,
        )

    def code(self, *args: Any, **options: Any) -> str | None:
        return self.appraise(*args, **options).code
