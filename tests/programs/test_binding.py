"""Bound once for life, to what every site has signed; and evidence for it."""

import base64
import time

import msgspec
import pytest

from attestation.appraisal import appraise
from attestation.measurement import measure
from attestation.quote import parse as parse_quote
from contracts.canonical import canonical
from contracts.evidence import Claims, Evidence, Expected, report_data
from contracts.manifest import MAX_MANIFEST_BYTES
from contracts.policy import CollateralFloor
from tests.support.approvals import approvals


@pytest.fixture(scope="module")
def world(house, tmp_path_factory, consortium_class):
    world = consortium_class(house, tmp_path_factory.mktemp("binding") / "run")
    world.aggregator = world.start("aggregator", "coordinator")
    yield world
    world.close()


@pytest.fixture
def refused(world, code_of):
    """The code with which the unbound program refuses these arguments of `bind`."""

    def refused(manifest=None, approvals=None):
        text = world.text if manifest is None else manifest
        return code_of(world.aggregator.call, "bind", manifest=text, approvals=approvals or world.approvals)

    return refused


def approve(world, manifest, **keys):
    return approvals(manifest, world.house.site_keys | keys)


def test_a_missing_approval_is_refused(world, refused, refusal_of):
    approvals = {"anna": world.approvals["anna"]}
    refusal = refusal_of(world.aggregator.call, "bind", manifest=world.text, approvals=approvals)
    assert (refusal.code, refusal.facts) == ("manifest.not_approved", {"site": "berta"})


def test_an_approval_by_another_sites_key_is_refused(world, refused):
    swapped = {"anna": world.approvals["berta"], "berta": world.approvals["anna"]}
    assert refused(approvals=swapped) == "manifest.not_approved"
    forged = approve(world, world.manifest, berta=world.house.site_keys["anna"])
    assert refused(approvals=forged) == "manifest.not_approved"


def test_an_approval_of_somebody_else_is_refused(world, refused):
    assert refused(approvals=world.approvals | {"clara": world.approvals["anna"]}) == "manifest.unknown_site"


def test_an_altered_policy_has_no_approval(world, refused):
    policy = msgspec.structs.replace(world.manifest.policy, accepted_statuses=("UpToDate", "OutOfDate"))
    altered = msgspec.structs.replace(world.manifest, policy=policy)
    assert refused(canonical(altered).decode()) == "manifest.not_approved"


def test_a_manifest_in_another_form_is_refused(world, refused):
    assert refused(world.text + " ") == "manifest.not_canonical"
    assert refused(world.text[:-1]) == "manifest.invalid"
    assert refused(world.text.replace('"run":"run-1"', '"run":"run-1","more":1')) == "manifest.invalid"
    assert refused(" " * (MAX_MANIFEST_BYTES + 1)) == "manifest.too_large"


def test_a_clock_below_the_approved_floor_is_refused(world, refused):
    manifest = world.house.manifest(minimum_time=int(time.time()) + 3600)
    assert refused(canonical(manifest).decode(), approve(world, manifest)) == "program.clock_below_floor"


def test_a_development_program_does_not_serve_a_hardware_run(world, refused):
    floor = CollateralFloor("00a067110000", "platform", 17, 17, 1, 1, 1, 1, 1, 1)
    policy = msgspec.structs.replace(
        world.manifest.policy, root="intel", minimum_tcb_evaluation=17, floors=(floor,)
    )
    manifest = world.house.manifest(runtime="sgx", policy=policy)
    assert refused(canonical(manifest).decode(), approve(world, manifest)) == "program.wrong_runtime"


def test_a_run_in_trust_domains_is_refused_because_nothing_measures_its_programs(world, refused):
    manifest = world.house.manifest(runtime="tdx")
    assert refused(canonical(manifest).decode(), approve(world, manifest)) == "runtime.unmeasured"


@pytest.mark.parametrize("missing", [{"floors": ()}, {"minimum_tcb_evaluation": 0}])
def test_a_hardware_run_without_floors_for_collateral_is_refused(world, refused, missing):
    floor = CollateralFloor("00a067110000", "platform", 17, 17, 1, 1, 1, 1, 1, 1)
    named = {"root": "intel", "minimum_tcb_evaluation": 17, "floors": (floor,)} | missing
    manifest = world.house.manifest(
        runtime="sgx", policy=msgspec.structs.replace(world.manifest.policy, **named)
    )
    assert refused(canonical(manifest).decode(), approve(world, manifest)) == "manifest.invalid"


def claims_of(process):
    return msgspec.convert(process.call("evidence", nonce="00" * 32)["claims"], Claims)


@pytest.fixture(scope="module")
def bound(world):
    """All refusals above have changed nothing: the program can still be bound. What it then claims."""
    assert world.aggregator.call("bind", manifest=world.text, approvals=world.approvals) == {}
    return claims_of(world.aggregator)


def test_a_second_binding_is_refused_also_to_the_same_run(world, bound, refused):
    assert bound.manifest == world.manifest.hash
    assert refused() == "program.already_bound"
    other = world.house.manifest(run="run-2")
    assert refused(canonical(other).decode(), approve(world, other)) == "program.already_bound"


def test_evidence_answers_each_nonce_and_binds_keys_manifest_and_program(world, bound):
    for nonce in ("01" * 32, "02" * 32):
        answer = world.evidence(world.aggregator, nonce)
        claims = msgspec.convert(answer["claims"], Claims)
        assert claims == Claims(nonce, bound.hpke_key, bound.signing_key, world.manifest.hash, "aggregator")
        quote = parse_quote(base64.b64decode(answer["quote"]))
        assert quote.report.report_data == report_data(claims)
        assert quote.report.mrenclave.hex() == measure("aggregator")
        evidence = msgspec.convert(answer, Evidence)
        expected = Expected(nonce, world.manifest.hash, "aggregator")
        appraisal = appraise(evidence, world.manifest.policy, at=int(time.time()), expected=expected)
        assert (appraisal.verdict, appraisal.development) == ("accepted", True)


def test_two_programs_of_one_run_have_different_keys(world, bound):
    again = world.start("aggregator", "coordinator")
    again.call("bind", manifest=world.text, approvals=world.approvals)
    other = claims_of(again)
    assert other.hpke_key != bound.hpke_key
    assert other.signing_key != bound.signing_key
