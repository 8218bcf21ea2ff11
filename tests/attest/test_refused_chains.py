"""Certificates and revocation lists that do not hold are refused, each fault by its code.

The pieces are made with the development root, which signs the same structures as Intel's, and re-signed by
the right key after each change: only the check in question can object.
"""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.development import certificates as pki
from attestation.development_quoting import constants as dev
from attestation.offline import appraise_offline
from tests.attest.corpus import ABSENT, ACCEPTED, one
from tests.attest.workshop import AT, Workshop

INTEL = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_what_the_workshop_makes_is_accepted(workshop, tee):
    appraisal = workshop.appraise(tee=tee)
    assert (appraisal.verdict, appraisal.code, appraisal.development) == ("accepted", None, True)
    assert {check.outcome for check in appraisal.checks} == {"pass", "not applicable"}


def test_development_evidence_under_intels_root(workshop):
    policy = workshop.policy(root="intel", root_sha256=INTEL)
    assert workshop.code(policy=policy) == "attest.root_untrusted"
    quote, collateral = workshop.quote().encode(), workshop.collateral()
    assert appraise_offline(quote, collateral, AT).code == "attest.root_untrusted"


@pytest.mark.skipif(not ACCEPTED, reason=ABSENT)
def test_intels_evidence_under_a_development_root(workshop):
    case = one("sgx")
    found = appraise_offline(case.quote, case.collateral, case.at, workshop.policy())
    assert (found.code, found.development) == ("attest.root_untrusted", True)


def test_a_policy_that_calls_another_root_intels(workshop):
    policy = workshop.policy(root="intel", root_sha256=workshop.root_sha256)
    assert workshop.code(policy=policy) == "attest.policy_root"
    assert workshop.code(policy=workshop.policy(root_sha256=INTEL)) == "attest.policy_root"


def test_a_development_root_that_does_not_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(dev, "MARK", "HARDWARE")
    assert Workshop(tmp_path).code() == "attest.root_unmarked"


@pytest.mark.skipif(not ACCEPTED, reason=ABSENT)
@pytest.mark.parametrize(
    "chain", ["pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"]
)
def test_collateral_of_another_root(workshop, chain):
    intels = one("sgx").collateral[chain]
    code = workshop.code(collateral=workshop.collateral() | {chain: intels})
    assert code == "attest.root_untrusted"


def test_a_pck_that_the_ca_did_not_issue(workshop, tmp_path):
    chain = Workshop(tmp_path).links[0] + workshop.root.pck_ca.pem + workshop.root.root.pem
    assert workshop.code(replace(workshop.quote(), pck_chain=chain)) == "attest.chain_broken"


@pytest.mark.parametrize("order", [(0, 2), (0, 1, 1, 2), (1, 0, 2)])
def test_a_chain_in_another_shape(workshop, order):
    quote = replace(workshop.quote(), pck_chain=b"".join(workshop.links[i] for i in order))
    assert workshop.code(quote) in ("attest.chain_broken", "attest.certificate_role")


def test_a_tcb_signer_in_place_of_a_pck(workshop):
    chain = workshop.root.tcb_signing.pem + workshop.root.pck_ca.pem + workshop.root.root.pem
    assert workshop.code(replace(workshop.quote(), pck_chain=chain)) == "attest.certificate_role"


def test_a_pck_without_intels_extension(workshop):
    key = workshop.platform.signer.pck_key.public_key()
    leaf = workshop.certificate(pki.PCK_NAME, key, "pck_ca")
    chain = leaf + workshop.root.pck_ca.pem + workshop.root.root.pem
    assert workshop.code(replace(workshop.quote(), pck_chain=chain)) == "attest.certificate_malformed"


def test_a_leaf_that_may_sign_certificates(workshop):
    key = workshop.platform.signer.pck_key.public_key()
    leaf = workshop.certificate(pki.PCK_NAME, key, "pck_ca", ca_path_length=0)
    chain = leaf + workshop.root.pck_ca.pem + workshop.root.root.pem
    assert workshop.code(replace(workshop.quote(), pck_chain=chain)) == "attest.certificate_role"


def test_a_pck_that_another_leaf_issued(workshop):
    """The owner of a platform certifies a PCK of their own with their genuine one."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = pki.certificate(pki.PCK_NAME, key.public_key(), pki.PCK_NAME, workshop.platform.signer.pck_key)
    chain = own.public_bytes(Encoding.PEM) + workshop.links[0] + workshop.root.root.pem
    assert workshop.code(replace(workshop.quote(), pck_chain=chain)) == "attest.certificate_role"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"algorithm": hashes.SHA384()}, "attest.chain_broken"),
        ({"key": ec.generate_private_key(ec.SECP384R1()).public_key()}, "attest.certificate_malformed"),
        (
            {
                "extra": x509.Extension(
                    x509.ObjectIdentifier("1.2.3"),
                    True,
                    x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b""),
                )
            },
            "attest.certificate_role",
        ),
    ],
    ids=["another hash", "another curve", "a critical extension that nobody knows"],
)
def test_a_pck_outside_intels_profile(workshop, change, code):
    leaf = workshop.reissued(workshop.pck, "pck_ca", **change)
    chain = leaf + workshop.root.pck_ca.pem + workshop.root.root.pem
    assert workshop.code(replace(workshop.quote(), pck_chain=chain)) == code


def test_a_certificate_before_its_time(workshop):
    signer = workshop.reissued(
        workshop.root.tcb_signing.certificate, "root", start=datetime.fromtimestamp(AT, UTC)
    )
    chain = (signer + workshop.root.root.pem).decode()
    fields = workshop.collateral() | {"tcb_info_issuer_chain": chain}
    assert workshop.code(collateral=fields, at=AT - 1) == "attest.certificate_not_yet_valid"
    assert workshop.code(collateral=fields, at=AT) is None


def test_a_certificate_after_its_time(workshop):
    end = int(workshop.pck.not_valid_after_utc.timestamp())
    fields = workshop.collateral(at=end)
    assert workshop.code(collateral=fields, at=end) is None
    assert workshop.code(collateral=fields, at=end + 1) == "attest.certificate_expired"


def test_a_revoked_pck(workshop):
    fields = workshop.collateral() | {
        "pck_crl": workshop.crl("pck_crl", revoked=(workshop.pck.serial_number,))
    }
    assert workshop.code(collateral=fields) == "attest.revoked"


@pytest.mark.parametrize("who", ["root", "pck_ca", "tcb_signing"])
def test_a_revoked_authority(workshop, who):
    serial = getattr(workshop.root, who).certificate.serial_number
    fields = workshop.collateral() | {"root_ca_crl": workshop.crl("root_ca_crl", revoked=(serial,))}
    assert workshop.code(collateral=fields) == "attest.revoked"


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_a_crl_of_the_wrong_authority(workshop, name):
    other = {"root_ca_crl": "pck_ca", "pck_crl": "root"}[name]
    fields = workshop.collateral() | {name: workshop.crl(name, signer=other)}
    assert workshop.code(collateral=fields) == "attest.crl_issuer"


def test_a_crl_in_the_right_name_by_the_wrong_key(workshop, tmp_path):
    fields = workshop.collateral() | {"pck_crl": Workshop(tmp_path).crl("pck_crl")}
    assert workshop.code(collateral=fields) == "attest.crl_issuer"


def test_a_crl_of_another_pck_ca_of_the_same_root(workshop):
    """As if a platform with the Platform CA were shown the Processor CA's list: both are genuine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = "SGX PCK Processor CA"
    ca = workshop.certificate(name, key.public_key(), "root", ca_path_length=0)
    crl = pki.revocation_list(
        name,
        key,
        number=1,
        this_update=datetime.fromtimestamp(AT - 60, UTC),
        next_update=datetime.fromtimestamp(AT + 60, UTC),
        revoked={},
    )
    chain = (ca + workshop.root.root.pem).decode()
    fields = workshop.collateral() | {"pck_crl": crl.hex(), "pck_crl_issuer_chain": chain}
    assert workshop.code(collateral=fields) == "attest.crl_issuer"


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_a_crl_counts_from_this_update_to_before_next_update(workshop, name):
    fields = workshop.collateral() | {name: workshop.crl(name, start=AT, end=AT + 100)}
    assert workshop.code(collateral=fields, at=AT - 1) == "attest.crl_not_yet_valid"
    assert workshop.code(collateral=fields, at=AT) is None
    assert workshop.code(collateral=fields, at=AT + 99) is None
    assert workshop.code(collateral=fields, at=AT + 100) == "attest.crl_expired"


def test_a_crl_that_tells_only_a_part(workshop):
    fields = workshop.collateral() | {"pck_crl": workshop.partial_crl()}
    assert workshop.code(collateral=fields) == "attest.crl_issuer"


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_a_crl_that_is_none(workshop, name):
    for value in ("00", workshop.root.root.certificate.public_bytes(Encoding.DER).hex()):
        assert workshop.code(collateral=workshop.collateral() | {name: value}) == "attest.crl_malformed"
    for value in ("", "0", "zz"):
        fields = workshop.collateral() | {name: value}
        assert workshop.code(collateral=fields) == "attest.collateral_malformed"


@pytest.mark.parametrize("chain", ["", "\n", "no certificate"])
def test_an_empty_issuer_chain(workshop, chain):
    fields = workshop.collateral() | {"pck_crl_issuer_chain": chain}
    assert workshop.code(collateral=fields) == "attest.certificate_malformed"


def test_an_issuer_chain_that_is_too_short(workshop):
    fields = workshop.collateral() | {"pck_crl_issuer_chain": workshop.root.root.pem.decode()}
    assert workshop.code(collateral=fields) == "attest.chain_broken"
