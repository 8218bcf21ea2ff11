"""An attacker shows old collateral, still in date, that does not know of a revocation yet.

Collateral is valid for 30 days. A host whose platform was revoked yesterday keeps the set of the day before:
with floors that begin empty, an enclave that has just started cannot tell. The manifest's floors can.
"""

import base64
import time

import msgspec
import pytest

from attestation.development import collateral, revoke_platform
from attestation.offline import appraise_offline
from attestation.sources import open_source
from contracts.evidence import Claims, report_data
from contracts.policy import CollateralFloor
from contracts.refusal import Refusal
from contracts.sealed.hpke import HpkeKey
from contracts.signing import SigningKey
from tests.programs.conftest import Consortium, House

DAY = 86400


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A house whose hospital anna was broken into, noticed, and revoked an hour ago."""
    house = House(tmp_path_factory.mktemp("house"))
    chain = (house.platforms["anna"] / "pck-chain.pem").read_bytes()
    revoke_platform(house.root, chain, at=int(time.time()) - 3600)
    return house


def floor_of(fields, house):
    """The floor that a set makes, as the coordinator's freeze writes it."""
    source = open_source("development", platform=house.platforms["coordinator"], program="aggregator")
    found = appraise_offline(source.quote(bytes(64)), fields, int(time.time()), house.policy())
    issued = int(time.time()) // 3600 * 3600 - 3600
    return CollateralFloor(
        found.fmspc, found.ca, found.tcb_evaluation, found.qe_evaluation, found.root_ca_crl_number,
        found.pck_crl_number, issued, issued, issued, issued,
    )  # fmt: skip


@pytest.fixture(scope="module")
def answer(house, tmp_path_factory):
    """What an aggregator that has just started says to anna's stolen platform, by collateral and policy."""
    worlds = {}

    def answer(fields, **policy):
        key = repr(policy)
        if key not in worlds:
            changed = msgspec.structs.replace(house.policy(), **policy)
            worlds[key] = Consortium(house, tmp_path_factory.mktemp("run"), house.manifest(policy=changed))
            worlds[key].agg = worlds[key].aggregator()
        world = worlds[key]
        nonce = world.agg.call("challenge", site="anna")["nonce"]
        source = open_source("development", platform=house.platforms["anna"], program="client_slice")
        claims = Claims(
            nonce,
            HpkeKey.generate().public,
            SigningKey.generate().public,
            world.manifest.hash,
            "client_slice",
        )
        quote = base64.b64encode(source.quote(report_data(claims))).decode()
        evidence = {"quote": quote, "claims": msgspec.to_builtins(claims), "collateral": fields}
        arguments = {"evidence": evidence, "endorsement": world.endorsement("anna", evidence)}
        return world.agg.call("admit", site="anna", **arguments)

    yield answer
    for world in worlds.values():
        world.close()


def code_of(answer, *args, **policy):
    with pytest.raises(Refusal) as refused:
        answer(*args, **policy)
    return refused.value.code


def test_a_revoked_platform_with_the_collateral_of_yesterday_is_refused_by_a_fresh_enclave(house, answer):
    now = int(time.time())
    old, new = collateral(house.root, now - DAY), collateral(house.root, now)
    floors = {"floors": (floor_of(new, house),), "minimum_tcb_evaluation": 1}
    # The attack: it works where a policy names no floors, as every policy did.
    assert answer(old)
    assert code_of(answer, new) == "attest.revoked"
    assert code_of(answer, old, **floors) == "attest.crl_floor"
    assert code_of(answer, new, **floors) == "attest.revoked"


def test_collateral_issued_before_the_manifest_was_frozen_is_refused_though_no_number_fell(house, answer):
    now = int(time.time())
    floor = msgspec.structs.replace(floor_of(collateral(house.root, now), house), pck_crl_number=0)
    old = collateral(house.root, now - DAY)
    assert code_of(answer, old, floors=(floor,)) == "attest.issue_floor"


def test_a_lower_evaluation_number_than_the_manifests_is_refused(house, answer):
    old = collateral(house.root, int(time.time()) - DAY)
    assert code_of(answer, old, minimum_tcb_evaluation=2) == "attest.tcb_evaluation_floor"
