"""Genuine quotes get the verdict that they deserve, by our checks alone and with dcap-qvl beside."""

import pytest

from attestation.appraisal import judge, require
from attestation.checks import CHECKS
from attestation.checks.examination import Examination
from attestation.offline import appraise_offline
from contracts.refusal import Refusal
from tests.attest.corpus import ABSENT, ACCEPTED, CASES, one

pytestmark = pytest.mark.skipif(not CASES, reason=ABSENT)

REFUSED_BECAUSE = {
    "sgx-v3-debug-fortanix": "attest.debug",
    "sgx-v3-debug-openenclave": "attest.debug",
    "tdx-v4-debug": "attest.debug",
    "tdx-v4-azure-no-sept-ve-disable": "attest.sept_ve_disable",
    "tdx-v5-mrservicetd-nonzero": "attest.service_td",
    "tdx-v5-no-matching-tcb": "attest.tcb_not_supported",
}


def test_the_corpus_is_whole():
    assert len({case.name for case in CASES}) == 14
    assert len(CASES) == 31


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_our_checks_alone_give_the_expected_verdict(case):
    _expect(case, judge(Examination(case.quote, case.collateral, case.at), CHECKS))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_with_the_second_opinion_the_verdict_is_the_same(case):
    appraisal = appraise_offline(case.quote, case.collateral, case.at)
    _expect(case, appraisal)
    if case.accepted:
        assert appraisal.checks[-1].name == "second_opinion"
        words = ["accepted:", case.expected["status"], *case.expected["advisory_ids"]]
        assert appraisal.checks[-1].found == " ".join(words)


def _expect(case, appraisal):
    if case.accepted:
        assert (appraisal.verdict, appraisal.code) == ("accepted", None)
        assert appraisal.status == case.expected["status"]
        assert list(appraisal.advisories) == case.expected["advisory_ids"]
        require(appraisal)
    else:
        assert (appraisal.verdict, appraisal.code) == ("refused", REFUSED_BECAUSE[case.name])
        with pytest.raises(Refusal) as refusal:
            require(appraisal)
        assert refusal.value.code == appraisal.code
    assert appraisal.tee == case.name[:3]
    assert not appraisal.development


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.id)
def test_the_window_closes_to_the_second(case):
    """The corpus's window is the intersection of all dates; its end is the first nextUpdate."""
    start, end = case.window

    def verdict(at):
        return appraise_offline(case.quote, case.collateral, at).verdict

    assert verdict(start) == "accepted"
    assert verdict(start - 1) == "refused"
    assert verdict(end - 1) == "accepted"
    assert verdict(end + 1) == "refused"


def test_offline_says_what_it_cannot_know():
    case = one("tdx-v5-uptodate")
    checks = {check.name: check for check in appraise_offline(case.quote, case.collateral, case.at).checks}
    silent = {name for name, check in checks.items() if check.outcome == "not applicable"}
    assert silent == {
        "claims.nonce",
        "claims.manifest",
        "claims.program",
        "policy.status",
        "policy.advisories",
        "policy.measurement",
        "policy.configuration",
        "policy.launch",
        "report_data",
    }


def test_what_was_not_reached_is_said():
    case = next(case for case in CASES if case.name == "tdx-v4-debug")
    checks = list(appraise_offline(case.quote, case.collateral, case.at).checks)
    failed = next(i for i, check in enumerate(checks) if check.outcome == "fail")
    assert all(check.outcome != "fail" for check in checks[:failed])
    assert {check.found for check in checks[failed + 1 :]} == {"not reached: attributes.debug failed"}
    assert checks[failed].expected and checks[failed].found


def test_a_quotes_name_does_not_depend_on_collateral_or_time():
    quotes = {}
    for case in ACCEPTED:
        name = appraise_offline(case.quote, case.collateral, case.at).quote_sha256
        quotes.setdefault(case.name, set()).add(name)
    assert all(len(names) == 1 for names in quotes.values())
    assert len(set.union(*quotes.values())) == len(quotes)


def test_the_ppid_is_in_no_appraisal():
    import dcap_qvl
    import msgspec

    for case in ACCEPTED:
        ppid = dcap_qvl.parse_quote(case.quote).pck_extension().ppid.hex()
        text = msgspec.json.encode(appraise_offline(case.quote, case.collateral, case.at)).decode()
        assert len(ppid) == 32
        assert ppid not in text.lower()
