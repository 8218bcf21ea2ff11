"""Development evidence goes through the same verifier as Intel's, and fails where it should."""

import shutil

import pytest

from attestation import development
from attestation.appraisal import appraise
from attestation.development_quoting.trust_domain import MRTD
from attestation.measured import TREE
from attestation.measurement import measure
from attestation.sources import open_source
from attestation.trust_domain import development_reference, launch_of
from contracts.canonical import canonical
from contracts.evidence import Claims, Evidence, Expected, report_data
from contracts.policy import Policy, SgxReference, TdxReference
from tests.attest_sources.conftest import AT

CLAIMS = Claims(
    nonce="11" * 32, hpke_key="22" * 1216, signing_key="33" * 32, manifest="44" * 32, program="aggregator"
)
EXPECTED = Expected(CLAIMS.nonce, CLAIMS.manifest, CLAIMS.program)


@pytest.fixture(scope="module")
def quote(installation):
    return open_source("development", platform=installation.host, program="aggregator").quote(
        report_data(CLAIMS)
    )


@pytest.fixture(scope="module")
def mrenclave(quote):
    return quote[48 + 64 : 48 + 96].hex()


@pytest.fixture
def verdict(installation, quote, mrenclave):
    """Appraises the quote; what is not given is as it should be."""

    def judge(*, quote=quote, tee="sgx", root=None, reference=None, collateral_at=AT, at=AT, event_log=None):
        policy = Policy(
            "development",
            development.root_sha256(root or installation.root),
            (reference or SgxReference("aggregator", mrenclave=mrenclave),),
        )
        collateral = development.collateral(installation.root, collateral_at, tee)
        return appraise(Evidence(quote, collateral, CLAIMS, event_log), policy, at=at, expected=EXPECTED)

    return judge


def test_it_is_accepted_and_marked_for_ever(verdict, mrenclave):
    appraisal = verdict()
    assert (appraisal.verdict, appraisal.code, appraisal.status) == ("accepted", None, "UpToDate")
    assert (appraisal.tee, appraisal.development, appraisal.measurement) == ("sgx", True, mrenclave)
    assert {check.outcome for check in appraisal.checks} <= {"pass", "not applicable"}


def test_a_tdx_quote_is_accepted_against_its_measurements(verdict, installation):
    right = development_reference("aggregator")
    quote = installation.platform.tdx_quote(
        report_data(CLAIMS), mrtd=MRTD, rtmrs=tuple(bytes.fromhex(value) for value in right.rtmrs)
    )
    log = canonical(launch_of("aggregator")).decode() + "\n"
    wrong = TdxReference("aggregator", mrtd="0b" * 48, rtmrs=right.rtmrs)
    accepted = verdict(quote=quote, tee="tdx", reference=right, event_log=log)
    assert (accepted.verdict, accepted.measurement) == ("accepted", right.measurement)
    assert verdict(quote=quote, tee="tdx", reference=wrong, event_log=log).code == "attest.measurement"


def test_a_changed_line_of_enclave_code_is_refused(verdict, tmp_path):
    """The relying party expects the code as it is after the change; this process runs it unchanged."""
    ignored = shutil.ignore_patterns("__pycache__")
    for package in ("contracts", "attestation", "enclave"):
        shutil.copytree(TREE / package, tmp_path / package, ignore=ignored)
    with (tmp_path / "contracts" / "canonical.py").open("a") as file:
        file.write("# one more line\n")
    changed = SgxReference("aggregator", mrenclave=measure("aggregator", tmp_path))
    appraisal = verdict(reference=changed)
    assert appraisal.verdict == "refused"
    assert next(check.name for check in appraisal.checks if check.outcome == "fail") == "policy.measurement"


def test_another_program_of_the_same_code_is_refused(verdict):
    assert (
        verdict(reference=SgxReference("client_slice", mrenclave=measure("client_slice"))).verdict
        == "refused"
    )


def test_another_installations_root_is_refused(verdict, install, tmp_path):
    assert verdict(root=install(tmp_path).root).verdict == "refused"


def test_stale_and_future_collateral_is_refused(verdict):
    month = 30 * 24 * 3600
    assert verdict(at=AT + month - 7200).verdict == "accepted"
    assert verdict(at=AT + month).verdict == "refused"
    assert verdict(collateral_at=AT + 3 * 3600).verdict == "refused"


def test_a_revoked_platform_is_refused(install, tmp_path):
    made = install(tmp_path)
    quote = open_source("development", platform=made.host, program="aggregator").quote(report_data(CLAIMS))
    reference = SgxReference("aggregator", mrenclave=quote[112:144].hex())
    policy = Policy("development", development.root_sha256(made.root), (reference,))

    def appraisal():
        collateral = development.collateral(made.root, AT)
        return appraise(Evidence(quote, collateral, CLAIMS), policy, at=AT, expected=EXPECTED)

    before = appraisal()
    development.revoke_platform(made.root, made.chain, at=AT)
    after = appraisal()
    assert (before.verdict, before.pck_crl_number) == ("accepted", 1)
    assert (after.verdict, after.code) == ("refused", "attest.revoked")
