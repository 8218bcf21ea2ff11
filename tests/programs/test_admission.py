"""Each enclave judges the other itself: what a hostile host can put between them is refused."""

import base64

import msgspec
import pytest

from attestation.development import (
    collateral,
    create_platform,
    create_root,
    install_platform,
    issue_platform,
)
from attestation.sources import open_source
from contracts.evidence import Claims, report_data
from contracts.policy import SgxReference
from contracts.sealed.hpke import HpkeKey
from contracts.signing import SigningKey


@pytest.fixture(scope="module")
def world(house, tmp_path_factory, consortium_class):
    world = consortium_class(house, tmp_path_factory.mktemp("admission") / "run")
    world.agg = world.aggregator()
    world.anna = world.client("anna", load=False)
    yield world
    world.close()


def to_aggregator(world, name="anna", **changes):
    """Arguments of the aggregator's `admit` for anna's client slice."""
    evidence = world.evidence(world.anna, world.agg.call("challenge", site=name)["nonce"])
    arguments = {"site": name, "evidence": evidence, "endorsement": world.endorsement("anna", evidence)}
    return arguments | changes


def forged(world, platform, program, nonce, root, manifest=None):
    """Evidence with keys that the forger knows, by a platform that they own."""
    source = open_source("development", platform=platform, program=program)
    keys = HpkeKey.generate().public, SigningKey.generate().public
    claims = Claims(nonce, *keys, manifest or world.manifest.hash, program)
    quote = base64.b64encode(source.quote(report_data(claims))).decode()
    return {"quote": quote, "claims": msgspec.to_builtins(claims), "collateral": root}


def test_a_replayed_nonce_is_refused(world, code_of):
    arguments = to_aggregator(world)
    world.agg.call("admit", **arguments)
    assert code_of(world.agg.call, "admit", **arguments) == "program.nonce_unknown"
    evidence = world.evidence(world.agg, world.anna.call("challenge")["nonce"])
    world.admit(world.anna, evidence)
    assert code_of(world.admit, world.anna, evidence) == "program.nonce_unknown"


def test_a_nonce_that_the_host_invents_is_refused(world, code_of):
    evidence = world.evidence(world.agg, "ab" * 32)
    assert code_of(world.admit, world.anna, evidence) == "program.nonce_unknown"


def test_a_swapped_nonce_is_refused(world, code_of):
    """Old evidence under a fresh nonce: the quote does not bind it."""
    evidence = world.evidence(world.agg, "ab" * 32)
    evidence["claims"]["nonce"] = world.anna.call("challenge")["nonce"]
    assert code_of(world.admit, world.anna, evidence) == "attest.report_data"


@pytest.mark.parametrize("key", ["hpke_key", "signing_key"])
def test_swapped_keys_are_refused(world, code_of, key):
    evidence = world.evidence(world.agg, world.anna.call("challenge")["nonce"])
    swapped = HpkeKey.generate().public if key == "hpke_key" else SigningKey.generate().public
    evidence["claims"][key] = swapped
    assert code_of(world.admit, world.anna, evidence) == "attest.report_data"


def test_evidence_of_another_program_is_refused(world, code_of):
    evidence = world.evidence(world.anna, world.anna.call("challenge")["nonce"])
    assert code_of(world.admit, world.anna, evidence) == "attest.program"
    evidence["claims"]["nonce"] = world.anna.call("challenge")["nonce"]
    evidence["claims"]["program"] = "aggregator"  # the measurement tells
    assert code_of(world.admit, world.anna, evidence) == "attest.measurement"


def test_a_genuine_enclave_of_another_run_is_refused(world, code_of, consortium):
    other = consortium(run="run-2")
    evidence = other.evidence(other.aggregator(), world.anna.call("challenge")["nonce"])
    assert code_of(world.admit, world.anna, evidence) == "attest.manifest"


def test_evidence_under_another_root_is_refused(world, code_of, tmp_path):
    create_root(tmp_path / "root")
    request = create_platform(tmp_path / "platform")
    install_platform(tmp_path / "platform", issue_platform(tmp_path / "root", request))
    foreign = collateral(tmp_path / "root", world.manifest.minimum_time + 86400)
    nonce = world.anna.call("challenge")["nonce"]
    evidence = forged(world, tmp_path / "platform", "aggregator", nonce, foreign)
    assert code_of(world.admit, world.anna, evidence) == "attest.root_untrusted"


def test_expired_collateral_is_refused(world, code_of):
    old = collateral(world.house.root, world.manifest.minimum_time - 60 * 86400)
    evidence = world.evidence(world.agg, world.anna.call("challenge")["nonce"]) | {"collateral": old}
    assert code_of(world.admit, world.anna, evidence) == "attest.crl_expired"


def test_a_program_that_the_sites_did_not_approve_is_refused(world, house, code_of, consortium):
    """The manifest names another aggregator; the one that is there is genuine, but not that one."""
    references = (SgxReference("aggregator", mrenclave="1" * 64), house.policy().references[1])
    other = consortium(policy=msgspec.structs.replace(house.policy(), references=references))
    client = other.client("anna", load=False)
    evidence = other.evidence(other.aggregator(), client.call("challenge")["nonce"])
    assert code_of(other.admit, client, evidence) == "attest.measurement"


def test_damaged_evidence_is_refused(world, code_of):
    evidence = world.evidence(world.agg, world.anna.call("challenge")["nonce"])
    quote = bytearray(base64.b64decode(evidence["quote"]))
    quote[500] ^= 1
    evidence["quote"] = base64.b64encode(bytes(quote)).decode()
    assert code_of(world.admit, world.anna, evidence).startswith("attest.")
    del evidence["collateral"]
    assert code_of(world.admit, world.anna, evidence) == "program.bad_arguments"


def test_a_client_slice_that_its_site_does_not_endorse_is_refused(world, code_of):
    evidence = to_aggregator(world)["evidence"]
    by_berta = world.endorsement("berta", evidence)
    refused = to_aggregator(world, evidence=evidence, endorsement=by_berta)
    assert code_of(world.agg.call, "admit", **refused) == "admission.bad_endorsement"
    old = world.endorsement("anna", world.evidence(world.anna, "00" * 32))
    assert (
        code_of(world.agg.call, "admit", **to_aggregator(world, endorsement=old))
        == "admission.bad_endorsement"
    )


def test_one_sites_client_slice_does_not_pass_as_anothers(world, code_of):
    """Even if berta endorses it: one enclave would have the votes of two sites."""
    world.agg.call("admit", **to_aggregator(world))
    evidence = world.evidence(world.anna, world.agg.call("challenge", site="berta")["nonce"])
    arguments = {"site": "berta", "evidence": evidence, "endorsement": world.endorsement("berta", evidence)}
    assert code_of(world.agg.call, "admit", **arguments) == "admission.key_in_use"
    assert world.agg.call("status")["admitted"] == ["anna"]


def test_a_challenge_for_one_site_is_not_answered_by_another(world, code_of):
    evidence = world.evidence(world.anna, world.agg.call("challenge", site="berta")["nonce"])
    arguments = {"site": "anna", "evidence": evidence, "endorsement": world.endorsement("anna", evidence)}
    assert code_of(world.agg.call, "admit", **arguments) == "program.nonce_unknown"


def test_a_stranger_gets_no_challenge(world, code_of):
    assert code_of(world.agg.call, "challenge", site="clara") == "manifest.unknown_site"
    assert code_of(world.agg.call, "admit", **to_aggregator(world, site="clara")) == "manifest.unknown_site"


def test_who_may_own_a_platform_may_own_its_keys_but_only_with_the_sites_endorsement(world, code_of):
    """Development evidence proves nothing about hardware: a host can forge it. The site's signature
    stands."""
    nonce = world.agg.call("challenge", site="berta")["nonce"]
    evidence = forged(world, world.house.platforms["anna"], "client_slice", nonce, world.collateral())
    endorsement = world.endorsement("anna", evidence)
    arguments = {"site": "berta", "evidence": evidence, "endorsement": endorsement}
    assert code_of(world.agg.call, "admit", **arguments) == "admission.bad_endorsement"
