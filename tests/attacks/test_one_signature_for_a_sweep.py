"""One signature for a whole sweep, against those who would have it cover more: another manifest, a path of
another sweep, more runs, more results let out, or the signature of one point in the place of all.

The aggregator is a process of its own, and each approval is one that somebody has really signed.
"""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from contracts.approvals import SWEEP_DOMAIN, Approval, InSweep, sweep_payload, verify_approvals
from contracts.manifest import Publication, Release, Training
from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.refusal import Refusal
from contracts.releases import require_number
from contracts.sweep_tree import SweepTree
from enclave.programs.contributions import Enclosed
from enclave.training.metrics import Scores
from tests.programs.conftest import DATASET_KEY, Consortium, House, code_of, refusal_of
from tests.support.approvals import approvals, members
from tests.support.keys import approval_key
from tests.support.sweeps import approvals_of_sweep, point, terms

__all__ = ["code_of", "refusal_of"]

SITES = ("anna", "berta", "clara")
SCORES = Scores(8, 8, 6, 4.0, ((3, 1), (1, 3)))


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    return House(tmp_path_factory.mktemp("swept"), SITES)


@pytest.fixture(scope="module")
def points(house):
    """Three points, a fourth one that nobody has signed, and the first of another sweep."""
    training = Training(rounds=1, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7)
    base = house.manifest(training=training, release=Release("export", 2), publication=Publication(3, 20))
    return [point(base, seed) for seed in range(5)]


@pytest.fixture(scope="module")
def world(house, points, tmp_path_factory):
    made = Consortium(house, tmp_path_factory.mktemp("run"), points[0])
    yield made
    made.close()


def moved(given, **changes):
    """The same signatures, with other words about the place."""
    return {site: replace(one, sweep=replace(one.sweep, **changes)) for site, one in given.items()}


def lies(house, points):
    """What a coordinator may hand to the enclave of points[0] or points[3], by the code that refuses it."""
    signed, keys = points[:3], house.site_keys
    own = approvals_of_sweep(points[0], signed, keys)
    other = approvals_of_sweep(points[3], points[3:], keys)
    wide = SweepTree([one.hash for one in points[:4]])
    whole = terms(signed)
    widened = {
        site: replace(one, sweep=wide.place(replace(whole, root=wide.root, runs=4), points[3].hash))
        for site, one in own.items()
    }
    longer = moved(own, signed=replace(whole, runs=4), path=wide.place(whole, points[0].hash).path)
    bare = {site: Approval(one.confirmed, one.signature) for site, one in own.items()}
    alone = approvals(points[0], keys)
    one_point = {site: replace(one, sweep=own[site].sweep) for site, one in alone.items()}
    as_root = replace(whole, root=points[0].hash)
    beside = (own["anna"].sweep.index + 1) % 3
    a_leaf = {
        site: Approval(
            members(points[0]),
            approval_key(key).sign(SWEEP_DOMAIN, sweep_payload(as_root, site, members(points[0]))),
            InSweep(as_root, 0, ()),
        )
        for site, key in keys.items()
    }
    return {
        "a manifest that is not in the tree": (points[3], own, "approval.not_in_sweep"),
        "a path of another sweep": (
            points[0],
            {site: replace(one, sweep=other[site].sweep) for site, one in own.items()},
            "approval.not_in_sweep",
        ),
        "a wider tree under the old signature": (points[3], widened, "manifest.not_approved"),
        "more runs than were signed": (points[0], longer, "approval.not_in_sweep"),
        "more releases than were signed": (
            points[0], moved(own, signed=replace(whole, releases=3)), "manifest.not_approved",
        ),
        "less epsilon than was signed": (
            points[0], moved(own, signed=replace(whole, unbounded=0)), "manifest.not_approved",
        ),
        "the signature of the sweep for one point alone": (points[0], bare, "manifest.not_approved"),
        "the signature of one point for the sweep": (points[0], one_point, "manifest.not_approved"),
        "another leaf's number": (points[0], moved(own, index=beside), "approval.not_in_sweep"),
        "a path cut short": (points[0], moved(own, path=()), "approval.not_in_sweep"),
        "a manifest's hash in the place of a root": (points[0], a_leaf, "approval.not_in_sweep"),
        "one hospital's signature missing": (
            points[0], {site: one for site, one in own.items() if site != "berta"}, "manifest.not_approved",
        ),
    }  # fmt: skip


NAMES = (
    "a manifest that is not in the tree",
    "a path of another sweep",
    "a wider tree under the old signature",
    "more runs than were signed",
    "more releases than were signed",
    "less epsilon than was signed",
    "the signature of the sweep for one point alone",
    "the signature of one point for the sweep",
    "another leaf's number",
    "a path cut short",
    "a manifest's hash in the place of a root",
    "one hospital's signature missing",
)


@pytest.mark.parametrize("name", NAMES)
def test_an_approval_that_was_bent_is_refused(house, points, name):
    reported = lies(house, points)
    assert set(reported) == set(NAMES)
    manifest, given, code = reported[name]
    with pytest.raises(Refusal) as refusal:
        verify_approvals(manifest, given)
    assert refusal.value.code == code


def test_an_enclave_binds_by_the_path_of_its_own_manifest_alone(house, points, world, refusal_of):
    """In the process, over the wire: strange places are refused before any key is drawn."""
    signed = points[:3]
    for given in (approvals_of_sweep(points[1], signed, house.site_keys), {}):
        world.approvals = msgspec.to_builtins(given)
        assert refusal_of(world.aggregator).code in ("approval.not_in_sweep", "manifest.not_approved")
    world.approvals = msgspec.to_builtins(approvals_of_sweep(points[0], signed, house.site_keys))
    world.approvals["anna"]["sweep"]["path"] = ["no hash"]
    assert refusal_of(world.aggregator).code == "program.bad_arguments"


class TestReleases:
    @pytest.fixture(scope="class")
    def finished(self, house, points, world):
        """The run of points[0], to its end, under one signature of each hospital for three runs and one
        result."""
        from enclave.programs.learner import load_learner

        world.approvals = msgspec.to_builtins(approvals_of_sweep(points[0], points[:3], house.site_keys))
        aggregator = world.aggregator()
        slices = {site: world.rogue(aggregator, site) for site in SITES}
        model, rows = house.model, house.rows["anna"]
        initial = load_learner(points[0], "anna", model, rows, DATASET_KEY).initial
        receipt = NO_RECEIPT
        for round, state in ((1, initial), (2, {})):
            enclosed = Enclosed(receipt, 12 if state else 0, SCORES)
            blobs = {
                site: world.contribute(aggregator, slices[site], site, round, enclosed, state)
                for site in SITES
            }
            reported = aggregator.call("aggregate", round=round, **world.roster(round, blobs, receipt))
            receipt = receipt_hash(parse_receipt(reported["receipt"]).receipt)
        return aggregator, receipt

    def signatures(self, house, manifest, receipt, *numbers):
        from contracts.releases import approve_release

        given = {
            site: approve_release(
                manifest, receipt, site, approval_key(house.site_keys[site]), members(manifest), number=number
            )
            for site, number in zip(SITES, numbers, strict=False)
        }
        return {
            "receipt": receipt,
            "release_approvals": msgspec.to_builtins(given),
            "model": str(house.model),
        }

    @pytest.mark.parametrize("numbers", [(2, 2), (1, 2), (None, 1), (None, None)], ids=str)
    def test_a_result_beyond_those_that_were_allowed_stays_inside(
        self, house, points, finished, refusal_of, numbers
    ):
        aggregator, receipt = finished
        asked = self.signatures(house, points[0], receipt, *numbers)
        assert refusal_of(aggregator.call, "release", **asked).code == "release.beyond_sweep"

    def test_a_number_that_nobody_has_signed_is_refused(self, house, points, finished, refusal_of):
        aggregator, receipt = finished
        asked = self.signatures(house, points[0], receipt, 2, 1)
        asked["release_approvals"]["anna"]["number"] = 1
        assert refusal_of(aggregator.call, "release", **asked).code == "release.bad_approval"

    def test_the_one_that_was_allowed_comes_out(self, house, points, finished):
        aggregator, receipt = finished
        asked = self.signatures(house, points[0], receipt, 1, 1)
        assert aggregator.call("release", **asked)["output"]["bytes"] > 0


def test_a_run_that_was_approved_alone_knows_no_numbers(house, points):
    with pytest.raises(Refusal) as refusal:
        require_number("anna", 1, approvals(points[0], house.site_keys)["anna"], "export")
    assert refusal.value.code == "release.beyond_sweep"
    require_number(
        "anna", None, approvals_of_sweep(points[0], points[:3], house.site_keys)["anna"], "serve-only"
    )
