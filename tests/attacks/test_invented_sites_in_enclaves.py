"""Hospitals that the coordinator made up, against the enclaves' own counting.

Anna is real, and has confirmed Berta's keys alone. Clara is the coordinator's: it holds her keys, signs as
she would, and her approval confirms everybody. Before, Clara filled a quorum beside Anna, was the third
hospital of a pool from which her scores could be subtracted, and gave the signature that let the parameters
out.
"""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from contracts.approvals import Approval
from contracts.course import naming_sites
from contracts.manifest import KeyShares, Publication, Release, Training
from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.refusal import Refusal
from enclave.programs.contributions import Enclosed
from enclave.programs.naming import Naming
from enclave.programs.publication import publish
from enclave.programs.sharedkeys import SharedKeys
from enclave.training.metrics import Scores
from tests.programs.conftest import DATASET_KEY, Consortium, House, code_of, refusal_of
from tests.support.approvals import approvals, release_approval

__all__ = ["code_of", "refusal_of"]

SITES = ("anna", "berta", "clara")
KNOWS = {"anna": ("anna", "berta"), "berta": SITES, "clara": SITES}
SCORES = Scores(8, 8, 6, 4.0, ((3, 1), (1, 3)))


class Attacked:
    """A run of one round and its aggregator. This test holds the client slices' keys of all three."""

    def __init__(self, house: House, folder) -> None:
        training = Training(rounds=1, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7)
        manifest = house.manifest(
            training=training, release=Release("export", 2), publication=Publication(3, 20)
        )
        self.house, self.world = house, Consortium(house, folder, manifest)
        self.world.approvals = msgspec.to_builtins(approvals(manifest, house.site_keys, **KNOWS))
        self.aggregator = self.world.aggregator()
        self.slices = {site: self.world.rogue(self.aggregator, site) for site in SITES}
        self.receipt = NO_RECEIPT

    def aggregate(self, round, state, *sites):
        enclosed = Enclosed(self.receipt, 12 if state else 0, SCORES)
        blobs = {
            site: self.world.contribute(self.aggregator, self.slices[site], site, round, enclosed, state)
            for site in sites
        }
        reported = self.world.roster(round, blobs, self.receipt)
        return self.aggregator.call("aggregate", round=round, **reported)

    def signatures(self, *sites, **knows):
        keys = self.house.site_keys
        given = {
            site: release_approval(
                self.world.manifest, self.receipt, site, keys[site], knows=knows.get(site, KNOWS[site])
            )
            for site in sites
        }
        return {
            "receipt": self.receipt,
            "release_approvals": msgspec.to_builtins(given),
            "model": str(self.house.model),
        }


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    from enclave.programs.learner import load_learner

    folder = tmp_path_factory.mktemp("invented")
    house = House(folder, SITES)
    made = Attacked(house, folder / "run")
    made.initial = load_learner(
        made.world.manifest, "anna", house.model, house.rows["anna"], DATASET_KEY
    ).initial
    yield made
    made.world.close()


@pytest.fixture(scope="module")
def finished(attacked):
    attacked.results = []
    for round, state in ((1, attacked.initial), (2, {})):
        attacked.results.append(attacked.aggregate(round, state, *SITES))
        attacked.receipt = receipt_hash(parse_receipt(attacked.results[-1]["receipt"]).receipt)
    return attacked


def test_a_hospital_that_was_made_up_fills_no_roster_of_a_real_one(attacked, refusal_of):
    """The mean of Anna's parameters and the coordinator's own would be Anna's."""
    for pair in (("anna", "clara"), ("berta", "clara")):
        refusal = refusal_of(attacked.aggregate, 1, attacked.initial, *pair)
        assert (refusal.code, refusal.facts["found"]) == ("roster.below_quorum", 1)


def test_scores_are_not_pooled_with_those_of_a_hospital_that_was_made_up(finished):
    """Three are needed, and of three the coordinator knows one's scores: it would subtract them."""
    for result in finished.results:
        receipt = parse_receipt(result["receipt"]).receipt
        assert "pooled" not in result["metrics"] and "pooled" not in receipt.metrics
        assert receipt.scoring.withheld == "too_few_sites"


def test_the_rows_and_labels_of_a_hospital_that_was_made_up_lift_no_minimum():
    few, many = Scores(4, 4, 3, 2.0, ((2, 0), (1, 1))), Scores(900, 900, 900, 1.0, ((450, 0), (0, 450)))
    reported = dict.fromkeys("abc", few) | {"made-up": many}
    known = {site: Approval(tuple("abc"), "") for site in "abc"} | {"made-up": Approval(tuple(reported), "")}
    assert publish(Publication(3, 20), reported, (), known).scoring.withheld == "too_few_rows"
    rules = Publication(3, 10)
    found = publish(rules, reported, (), known)
    assert found.numbers["rows"] == 912 and "macro_f1" not in found.numbers, "they have six of each label"
    trusting = {site: Approval(tuple(reported), "") for site in reported}
    assert "macro_f1" in publish(rules, reported, (), trusting).numbers


def test_the_order_of_a_hospital_that_was_made_up_lets_no_parameters_out(finished, refusal_of):
    for sites in (("berta", "clara"), ("anna", "clara")):
        refusal = refusal_of(finished.aggregator.call, "release", **finished.signatures(*sites))
        assert (refusal.code, refusal.facts["found"]) == ("release.too_few", 1)


def test_who_orders_a_release_may_know_better_by_then_who_is_real(finished, refusal_of):
    """Anna has learned that Berta's keys are not Berta's, and says so in the order that she signs."""
    asked = finished.signatures("anna", "berta", anna=("anna",))
    assert refusal_of(finished.aggregator.call, "release", **asked).code == "release.too_few"
    altered = finished.signatures("anna", "berta", anna=("anna",))
    altered["release_approvals"]["anna"]["confirmed"] = ["anna", "berta"]
    assert refusal_of(finished.aggregator.call, "release", **altered).code == "release.bad_approval"
    assert finished.aggregator.call("release", **finished.signatures("anna", "berta"))["output"]["bytes"] > 0


def test_nobody_widens_what_a_hospital_has_signed(attacked, code_of):
    """The list of whom Anna has confirmed stands under her signature."""
    wider = dict(attacked.world.approvals)
    wider["anna"] = wider["anna"] | {"confirmed": list(SITES)}
    fresh = attacked.world.start("aggregator", "coordinator")
    asked = {"manifest": attacked.world.text, "approvals": wider}
    assert code_of(fresh.call, "bind", **asked) == "manifest.not_approved"
    del wider["anna"]["confirmed"]
    assert code_of(fresh.call, "bind", **asked) == "program.bad_arguments"


def of_split(shares=None):
    """Method 2's part of a manifest, and the three approvals, as a split server has them."""
    sites = tuple(SimpleNamespace(id=site) for site in SITES)
    rules = SimpleNamespace(quorum=2)
    manifest = SimpleNamespace(
        sites=sites, aggregation=rules, split=SimpleNamespace(shares=shares), hash="0" * 64
    )
    return manifest, {site: Approval(KNOWS[site], "") for site in SITES}


def test_a_hospital_that_was_made_up_names_no_state():
    manifest, known = of_split()
    naming = Naming(manifest, known)
    assert naming_sites(manifest) == 2
    for site in ("berta", "clara"):
        naming.tell(site, "a" * 64)
    with pytest.raises(Refusal) as caught:
        naming.require("a" * 64)
    assert (caught.value.code, caught.value.facts["found"]) == ("state.not_named", 1)
    naming.tell("anna", "a" * 64)
    naming.require("a" * 64)


def test_a_hospital_that_was_made_up_holds_no_share_of_a_states_key():
    """Two shares open the state: the coordinator would need one real hospital beside Clara."""
    manifest, known = of_split(KeyShares(2))
    source = SimpleNamespace(sealing_key=lambda label: None)
    keys = SharedKeys(
        SimpleNamespace(manifest=manifest, approvals=known, source=source, program="split_server")
    )
    from contracts.sealed.hpke import HpkeKey

    for site in ("anna", "clara"):
        keys.meet(site, HpkeKey.generate().public, None)
    assert keys.to_seal() is None
    keys.meet("berta", HpkeKey.generate().public, None)
    _, escrow = keys.to_seal()
    assert set(escrow.shares) == {"anna", "berta"}
