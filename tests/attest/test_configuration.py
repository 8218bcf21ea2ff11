"""Every field of a report that its host or signer chose is judged against the reference value."""

import pytest
from msgspec.structs import replace

from attestation.appraisal import judge
from attestation.checks import CHECKS
from attestation.checks.examination import INTEL_ROOT_SHA256, Examination
from attestation.quote import parse
from contracts.policy import Policy, SgxReference, TdxReference
from tests.attest.corpus import ABSENT, ACCEPTED, one
from tests.attest.workshop import SGX, TDX

# Field of the report, a value that its host could have chosen, and what a reference must say to accept it.
ENCLAVE = [
    ({"flags": 0x05 | 1 << 6}, {"flags": f"{0x45:016x}"}),  # CET
    ({"flags": 0x05 | 1 << 7}, {"flags": f"{0x85:016x}"}),  # key separation and sharing
    ({"flags": 0x05 | 1 << 10}, {"flags_mask": f"{0xFFFFFFFFFFFFFBFF:016x}"}),  # AEX-Notify, either way
    ({"xfrm": b"\xe7" + bytes(7)}, {"xfrm": f"{0xE7:016x}"}),  # AVX-512
    ({"xfrm": b"\x07" + bytes(7)}, {"xfrm_mask": f"{0xFFFFFFFFFFFFFFFB:016x}"}),  # AVX, either way
    ({"misc_select": 1}, {"misc_select": "00000001"}),  # EXINFO
    ({"config_id": b"\1" * 64}, {"config_id": "01" * 64}),
    ({"config_svn": 2}, {"config_svn": 2}),
    ({"isv_ext_product_id": b"\1" * 16}, {"ext_product_id": "01" * 16}),
    ({"isv_family_id": b"\1" * 16}, {"family_id": "01" * 16}),
]
DOMAIN = [
    ({"td_attributes": 1 << 28 | 1 << 30}, {"td_attributes": f"{1 << 28 | 1 << 30:016x}"}),  # PKS
    ({"td_attributes": 1 << 28 | 1 << 31}, {"td_attributes": f"{1 << 28 | 1 << 31:016x}"}),  # Key Locker
    ({"td_attributes": 1 << 28 | 1 << 63}, {"td_attributes_mask": f"{(1 << 63) - 1:016x}"}),  # PERFMON
    ({"xfam": b"\xe7" + bytes(7)}, {"xfam": f"{0xE7:016x}"}),
    ({"mrconfigid": b"\1" * 48}, {"mrconfigid": "01" * 48}),
    ({"mrowner": b"\1" * 48}, {"mrowner": "01" * 48}),
    ({"mrownerconfig": b"\1" * 48}, {"mrownerconfig": "01" * 48}),
]
FIELDS = [("sgx", SGX, *pair) for pair in ENCLAVE] + [("tdx", TDX, *pair) for pair in DOMAIN]


@pytest.mark.parametrize(("tee", "reference", "report", "named"), FIELDS)
def test_what_the_reference_does_not_name_is_refused_and_what_it_names_is_accepted(
    workshop, tee, reference, report, named
):
    quote = workshop.resigned(workshop.quote(tee), **report)
    assert workshop.code(quote, tee=tee) == "attest.configuration"
    policy = workshop.policy(replace(reference, **named))
    assert workshop.code(quote, tee=tee, policy=policy) is None


@pytest.mark.parametrize(("tee", "reference", "report", "named"), FIELDS)
def test_what_a_reference_names_must_be_there(workshop, tee, reference, report, named):
    wanted = {name: value for name, value in named.items() if not name.endswith("_mask")}
    policy = workshop.policy(replace(reference, **wanted))
    assert workshop.code(tee=tee, policy=policy) == ("attest.configuration" if wanted else None)


def test_a_reference_may_pin_the_tdx_module(workshop):
    mrseam = workshop.quote("tdx").report.mrseam.hex()
    for mrseams, code in (
        ((mrseam,), None),
        (("f" * 96, mrseam), None),
        (("f" * 96,), "attest.configuration"),
    ):
        policy = workshop.policy(replace(TDX, mrseams=mrseams))
        assert workshop.code(tee="tdx", policy=policy) == code


def test_no_mask_hides_debug_mode_or_a_provisioning_key(workshop):
    policy = workshop.policy(replace(SGX, flags_mask="0" * 16), replace(TDX, td_attributes_mask="0" * 16))
    for flags, code in ((0x07, "attest.debug"), (0x15, "attest.provisioning_key"),
                        (0x25, "attest.provisioning_key"), (0x01, "attest.not_64_bit"),
                        (0x0D, "attest.reserved_attributes"),
                        (0x05 | 1 << 63, "attest.reserved_attributes")):  # fmt: skip
        assert workshop.code(workshop.resigned(workshop.quote(), flags=flags), policy=policy) == code
    for bits, code in ((1 << 28 | 1, "attest.debug"), (0, "attest.sept_ve_disable"),
                       (1 << 28 | 1 << 29, "attest.reserved_attributes")):  # fmt: skip
        quote = workshop.resigned(workshop.quote("tdx"), td_attributes=bits)
        assert workshop.code(quote, tee="tdx", policy=policy) == code


@pytest.mark.parametrize(
    ("name", "length"), [("reserved1", 12), ("reserved2", 32), ("reserved3", 32), ("reserved4", 42)]
)
def test_reserved_bytes_of_an_enclaves_report_are_zero(workshop, name, length):
    quote = workshop.resigned(workshop.quote(), **{name: bytes(length - 1) + b"\1"})
    assert workshop.code(quote) == "attest.reserved_bytes"


def test_two_references_of_one_measurement_do_not_lend_each_other_fields(workshop):
    quote = workshop.resigned(workshop.quote(), config_svn=2, misc_select=1)
    policy = workshop.policy(replace(SGX, config_svn=2), replace(SGX, misc_select="00000001"))
    assert workshop.code(quote, policy=policy) == "attest.configuration"


def genuine(case, **named):
    """The verdict on a recorded quote, by a policy that names its measurement and `named`."""
    report = parse(case.quote).report
    if case.name.startswith("sgx"):
        reference = SgxReference("aggregator", mrenclave=report.mrenclave.hex(), **named)
    else:
        rtmrs = tuple(register.hex() for register in report.rtmrs)
        reference = TdxReference("aggregator", mrtd=report.mrtd.hex(), rtmrs=rtmrs, **named)
    status, advisories = case.expected["status"], tuple(case.expected["advisory_ids"])
    policy = Policy("intel", INTEL_ROOT_SHA256, (reference,), (status,), advisories)
    # Those who recorded them started their trust domains in ways of their own.
    checks = [check for check in CHECKS if check[0] != "policy.launch"]
    found = judge(Examination(case.quote, case.collateral, case.at, policy), checks)
    failed = [check for check in found.checks if check.outcome == "fail"]
    return (found.code, failed[0].found.split(":")[0]) if failed else None


@pytest.mark.skipif(not ACCEPTED, reason=ABSENT)
@pytest.mark.parametrize(
    ("case", "wrong", "named"),
    [
        # Each is a genuine quote under Intel's root, and ran with more than the least.
        ("sgx-v3-prod-swhardening", "XFRM", {"xfrm": f"{0x07:016x}"}),
        ("sgx-v3-prod-outofdate", "XFRM", {"xfrm": f"{0xE7:016x}"}),
        ("tdx-v4-gcp", "XFAM", {"xfam": f"{0x600E7:016x}"}),
        ("tdx-v5-uptodate", "XFAM", {"xfam": f"{0x602E7:016x}"}),
    ],
)
def test_genuine_quotes_need_a_reference_that_names_how_they_ran(case, wrong, named):
    assert genuine(one(case)) == ("attest.configuration", wrong)
    assert genuine(one(case), **named) is None


@pytest.mark.skipif(not ACCEPTED, reason=ABSENT)
@pytest.mark.parametrize("case", ["tdx-v4-near", "tdx-v4-trustee"])
def test_a_genuine_td_whose_host_set_mrconfigid_is_refused_until_the_reference_names_it(case):
    report = parse(one(case).quote).report
    xfam = {"xfam": report.xfam[::-1].hex()}
    assert any(report.mrconfigid)
    assert genuine(one(case), **xfam) == ("attest.configuration", "MRCONFIGID")
    assert genuine(one(case), **xfam, mrconfigid=report.mrconfigid.hex()) is None
