"""What a policy accepts, what two verifiers agree on, and in what words a refusal comes."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace as with_fields

import attestation as attest
from attestation import second_opinion
from attestation.appraisal import judge, require
from attestation.checks import CHECKS, platform
from attestation.checks.examination import Examination
from contracts import launch
from contracts.policy import SgxReference, TdxReference
from contracts.refusal import Refusal
from error_catalogue import CATALOGUE
from tests.attest.workshop import AT, CLAIMS, EXPECTED, MRENCLAVE, MRSIGNER, PRODUCT, SVN, TDX


def _out_of_date(value):
    value["tcbLevels"][0] |= {"tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-00001", "INTEL-SA-00002"]}


def test_out_of_date_needs_allowance_of_status_and_of_each_advisory(workshop):
    fields = workshop.document("tcb_info", _out_of_date)
    both = ("INTEL-SA-00001", "INTEL-SA-00002")
    allowed = {"accepted_statuses": ("UpToDate", "OutOfDate")}

    def code(**options):
        return workshop.code(collateral=fields, policy=workshop.policy(**options))

    assert code() == "attest.status"
    assert code(accepted_advisories=both) == "attest.status"
    assert code(**allowed) == "attest.advisory"
    assert code(**allowed, accepted_advisories=both[:1]) == "attest.advisory"
    assert code(**allowed, accepted_advisories=both) is None


def test_evidence_without_claims_is_never_enough_for_who_expects_something(workshop):
    """A check whose input is missing has failed; only an auditor, who expects nothing, passes it by."""
    fields = (workshop.quote().encode(), workshop.collateral(), AT, workshop.policy())
    assert judge(Examination(*fields, claims=CLAIMS, expected=EXPECTED), CHECKS).verdict == "accepted"
    assert judge(Examination(*fields, claims=None, expected=EXPECTED), CHECKS).code == "attest.report_data"
    assert judge(Examination(*fields), CHECKS).verdict == "accepted"


def test_an_old_quoting_enclave_makes_the_platform_out_of_date(workshop):
    quote = workshop.with_qe(workshop.quote(), svn=7)
    appraisal = workshop.appraise(quote)
    assert (appraisal.code, appraisal.status) == ("attest.status", "OutOfDate")
    assert appraisal.advisories == ("DEVELOPMENT-SA-00001",)


def test_a_revoked_tcb_level_is_refused_whatever_the_policy_says(workshop):
    fields = workshop.document("tcb_info", lambda value: value["tcbLevels"][0].update(tcbStatus="Revoked"))
    assert workshop.code(collateral=fields) == "attest.tcb_revoked"


def test_a_platform_below_every_level(workshop):
    def raise_levels(value):
        for level in value["tcbLevels"]:
            level["tcb"]["pcesvn"] = 99

    fields = workshop.document("tcb_info", raise_levels)
    assert workshop.code(collateral=fields) == "attest.tcb_not_supported"


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_lower_evaluation_number_than_the_policy_asks_for(workshop, name):
    fields = workshop.document("tcb_info", lambda value: value.update(tcbEvaluationDataNumber=18))
    fields = workshop.document(
        "qe_identity", lambda value: value.update(tcbEvaluationDataNumber=18), base=fields
    )
    lower = workshop.document(name, lambda value: value.update(tcbEvaluationDataNumber=17), base=fields)
    policy = workshop.policy(minimum_tcb_evaluation=18)
    assert workshop.code(collateral=fields, policy=policy) is None
    assert workshop.code(collateral=lower, policy=policy) == "attest.tcb_evaluation_floor"


def _signer_reference(**changes):
    values = {"mrsigner": MRSIGNER.hex(), "product_id": PRODUCT, "minimum_svn": SVN}
    return SgxReference("aggregator", **{**values, **changes})


def test_a_signer_with_product_and_svn_is_accepted(workshop):
    assert workshop.code(policy=workshop.policy(_signer_reference())) is None
    assert workshop.code(policy=workshop.policy(_signer_reference(minimum_svn=0))) is None


def test_a_lower_svn_than_the_policy_asks_for(workshop):
    policy = workshop.policy(_signer_reference(minimum_svn=SVN + 1))
    assert workshop.code(policy=policy) == "attest.svn_too_low"


@pytest.mark.parametrize(
    "reference",
    [
        SgxReference("aggregator", mrenclave="00" * 32),
        SgxReference("client_slice", mrenclave=MRENCLAVE.hex()),
        SgxReference("aggregator"),
        _signer_reference(product_id=PRODUCT + 1),
        _signer_reference(mrsigner="00" * 32),
        _signer_reference(product_id=None),
        _signer_reference(minimum_svn=None),
        _signer_reference(mrenclave="00" * 32),
        TDX,
    ],
)
def test_an_enclave_that_is_no_reference_value(workshop, reference):
    assert workshop.code(policy=workshop.policy(reference)) == "attest.measurement"


def test_each_register_of_a_td_counts(workshop):
    for i in range(4):
        rtmrs = tuple("ff" * 48 if n == i else value for n, value in enumerate(TDX.rtmrs))
        policy = workshop.policy(TdxReference("aggregator", mrtd=TDX.mrtd, rtmrs=rtmrs))
        assert workshop.code(tee="tdx", policy=policy) == "attest.measurement"
    policy = workshop.policy(TdxReference("aggregator", mrtd="ff" * 48, rtmrs=TDX.rtmrs))
    assert workshop.code(tee="tdx", policy=policy) == "attest.measurement"


def test_the_second_opinion_can_refuse_what_we_accept(workshop):
    """Intel lets the QE's authentication data have any length; dcap-qvl only knows 32 bytes."""
    quote = workshop.with_qe(workshop.quote(), auth_data=b"short")
    appraisal = workshop.appraise(quote)
    assert (appraisal.verdict, appraisal.code) == ("refused", "attest.second_opinion")
    assert "auth data" in appraisal.checks[-1].found


def test_a_second_opinion_with_another_status_refuses(workshop, monkeypatch):
    """We know no evidence on which dcap-qvl 0.7.0 finds another status; were there one, it would count."""
    for found in (
        second_opinion.Opinion(True, "OutOfDate", (), "accepted: OutOfDate"),
        second_opinion.Opinion(True, "UpToDate", ("INTEL-SA-00001",), "accepted: UpToDate INTEL-SA-00001"),
    ):
        monkeypatch.setattr(second_opinion, "ask", lambda *args, found=found: found)
        appraisal = workshop.appraise()
        assert (appraisal.code, appraisal.checks[-1].found) == ("attest.second_opinion", found.words)


def test_a_fault_in_a_check_refuses(workshop, monkeypatch):
    """Fail closed: an exception that nobody foresaw is a refusal, and a traceback in the log."""
    monkeypatch.setattr(platform.tcb, "evaluate", lambda *args: 1 / 0)
    assert workshop.code() == "attest.internal"


def test_every_code_has_words_for_people():
    """Codes stand in the source as literals, or with a name put in."""
    source = "".join(path.read_text() for path in Path(attest.__file__).parent.rglob("*.py"))
    source += Path(launch.__file__).read_text()
    codes = set(re.findall(r'"(attest\.[a-z_0-9]+)"', source))
    for code in re.findall(r'f"(attest\.{code}[a-z_]*)"', source):
        codes |= {code.replace("{code}", name) for name in ("tcb_info", "qe_identity")}
    codes |= {f"attest.{name}" for name in ("nonce", "manifest", "program")}
    assert len(codes) > 50
    assert codes == {code for code in CATALOGUE if code.startswith("attest.")}


def test_a_refusal_reads_like_a_sentence(workshop):
    appraisal = workshop.appraise(expected=with_fields(EXPECTED, manifest="99" * 32))
    with pytest.raises(Refusal) as refused:
        require(appraisal)
    assert refused.value.facts["check"] == "claims.manifest"
    assert str(refused.value) == (
        f"The evidence is for the manifest {'44' * 32}, but {'99' * 32} was approved. [attest.manifest]"
    )
