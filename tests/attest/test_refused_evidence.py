"""Evidence that answers somebody else, is not vouched for, or runs in a bad mode is refused by its code."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace as with_fields

from attestation.development_quoting.keys import raw_public_key, raw_signature
from tests.attest.workshop import CLAIMS, EXPECTED


def test_another_nonce(workshop):
    assert workshop.code(expected=with_fields(EXPECTED, nonce="99" * 32)) == "attest.nonce"


def test_another_manifest(workshop):
    assert workshop.code(expected=with_fields(EXPECTED, manifest="99" * 32)) == "attest.manifest"


def test_another_program(workshop):
    assert workshop.code(expected=with_fields(EXPECTED, program="client_slice")) == "attest.program"


@pytest.mark.parametrize("key", ["hpke_key", "signing_key"])
@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_a_valid_quote_with_anothers_key(workshop, key, tee):
    claims = with_fields(CLAIMS, **{key: "99" * 32})
    assert workshop.code(tee=tee, claims=claims) == "attest.report_data"


def test_a_quote_for_another_round_of_questions(workshop):
    """The adversary has a genuine quote for an old nonce and writes the new nonce into the claims."""
    old = workshop.quote(claims=with_fields(CLAIMS, nonce="99" * 32))
    assert workshop.code(old) == "attest.report_data"


def test_a_qe_report_that_the_pck_did_not_sign(workshop):
    quote = workshop.quote()
    report = quote.qe_report._replace(config_svn=1)
    assert workshop.code(replace(quote, qe_report=report)) == "attest.qe_signature"


def test_an_attestation_key_that_the_qe_did_not_make(workshop):
    """The adversary signs a report of their own with their own key."""
    key = ec.generate_private_key(ec.SECP256R1())
    quote = replace(workshop.quote(), attestation_key=raw_public_key(key.public_key()))
    quote = replace(quote, signature=raw_signature(key, quote.signed))
    assert workshop.code(quote) == "attest.qe_binding"


def test_qe_report_data_has_nothing_after_the_hash(workshop):
    quote = workshop.quote()
    data = quote.qe_report.report_data[:32] + b"\1" * 32
    assert workshop.code(workshop.with_qe(quote, report_data=data)) == "attest.qe_binding"


def test_a_quoting_enclave_in_debug_mode(workshop):
    assert workshop.code(workshop.with_qe(workshop.quote(), flags=0x17)) == "attest.qe_debug"


@pytest.mark.parametrize(
    "field", [{"mrsigner": bytes(32)}, {"product_id": 9}, {"misc_select": 1}, {"flags": 0x14}]
)
def test_another_enclave_as_quoting_enclave(workshop, field):
    assert workshop.code(workshop.with_qe(workshop.quote(), **field)) == "attest.qe_identity"


def test_a_quoting_enclave_below_every_published_svn(workshop):
    assert workshop.code(workshop.with_qe(workshop.quote(), svn=1)) == "attest.tcb_not_supported"


def test_a_report_that_the_attestation_key_did_not_sign(workshop):
    for quote in (workshop.quote(), workshop.quote("tdx")):
        tee = quote.tee
        other = replace(quote, report=quote.report._replace(report_data=bytes(64)))
        assert workshop.code(other, tee=tee) == "attest.quote_signature"


def test_an_enclave_in_debug_mode(workshop):
    assert workshop.code(workshop.resigned(workshop.quote(), flags=0x07)) == "attest.debug"
    debug = workshop.resigned(workshop.quote("tdx"), td_attributes=1 << 28 | 1)
    assert workshop.code(debug, tee="tdx") == "attest.debug"


def test_an_enclave_that_was_not_initialised(workshop):
    assert workshop.code(workshop.resigned(workshop.quote(), flags=0x04)) == "attest.not_initialised"


@pytest.mark.parametrize("flag", [0x10, 0x20])
def test_an_enclave_with_a_provisioning_or_launch_key(workshop, flag):
    quote = workshop.resigned(workshop.quote(), flags=0x05 | flag)
    assert workshop.code(quote) == "attest.provisioning_key"


@pytest.mark.parametrize("bit", [1, 7, 8, 16, 27, 29, 32, 62])
def test_a_td_with_a_reserved_attribute(workshop, bit):
    quote = workshop.resigned(workshop.quote("tdx"), td_attributes=1 << 28 | 1 << bit)
    assert workshop.code(quote, tee="tdx") == "attest.reserved_attributes"


def test_a_td_without_sept_ve_disable(workshop):
    quote = workshop.resigned(workshop.quote("tdx"), td_attributes=0)
    assert workshop.code(quote, tee="tdx") == "attest.sept_ve_disable"


def _as_v5(workshop, **fields):
    """The same TD in a quote v5 with a TD report 1.5."""
    quote = workshop.quote("tdx")
    fields = {"tee_tcb_svn2": quote.report.tee_tcb_svn, "mrservicetd": bytes(48), **fields}
    quote = replace(quote, header=quote.header._replace(version=5))
    return workshop.resigned(quote, **fields)


def test_a_td_report_1_5_is_accepted_and_a_service_td_is_not(workshop):
    assert workshop.code(_as_v5(workshop), tee="tdx") is None
    beside = _as_v5(workshop, mrservicetd=b"\1" + bytes(47))
    assert workshop.code(beside, tee="tdx") == "attest.service_td"


def test_a_td_that_was_launched_under_an_old_module_should_be_launched_again(workshop):
    svn = workshop.quote("tdx").report.tee_tcb_svn
    old = bytes([svn[0] - 1]) + svn[1:]
    appraisal = workshop.appraise(_as_v5(workshop, tee_tcb_svn=old), tee="tdx")
    assert (appraisal.code, appraisal.status) == ("attest.status", "TDRelaunchAdvised")
    both = workshop.appraise(_as_v5(workshop, tee_tcb_svn=old, tee_tcb_svn2=old), tee="tdx")
    assert (both.code, both.status) == ("attest.status", "OutOfDate")


def test_a_td_whose_module_now_is_below_every_level(workshop):
    svn = workshop.quote("tdx").report.tee_tcb_svn
    quote = _as_v5(workshop, tee_tcb_svn2=bytes([0]) + svn[1:])
    assert workshop.code(quote, tee="tdx") == "attest.tcb_not_supported"


@pytest.mark.parametrize("fields", [{"mrsigner_seam": b"\1" * 48}, {"seam_attributes": b"\1" + bytes(7)}])
def test_a_tdx_module_that_intel_does_not_name(workshop, fields):
    quote = workshop.resigned(workshop.quote("tdx"), **fields)
    assert workshop.code(quote, tee="tdx") == "attest.tdx_module"


def test_a_tdx_module_of_an_unknown_version(workshop):
    svn = workshop.quote("tdx").report.tee_tcb_svn
    quote = workshop.resigned(workshop.quote("tdx"), tee_tcb_svn=svn[:1] + b"\x09" + svn[2:])
    assert workshop.code(quote, tee="tdx") == "attest.tdx_module"
