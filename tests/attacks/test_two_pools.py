"""The coordinator keeps a round's answer back, and has the next round scored by another instance of the
server: over other sites, or over the same ones with the same parameters once more. Two pools would be
subtracted.

Both servers are genuine, of either method, and the sites sign each round once, as their agents do.
"""

from __future__ import annotations

import msgspec
import pytest

from contracts.manifest import Publication
from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT
from contracts.roster import Roster, RosterEntry
from enclave.programs.contributions import Enclosed
from enclave.programs.learner import load_learner
from enclave.training.metrics import Scores
from site_agent.files import private_folder
from site_agent.rosters import RosterBook
from tests.programs.conftest import DATASET_KEY, Consortium, House
from tests.programs.split_house import SplitRun, split_manifest

SITES = ("anna", "berta", "clara", "doris")


class Pools(SplitRun):
    """Four hospitals whose features two instances of the server have, neither of which has done a round."""

    def __init__(self, house: House, folder) -> None:
        manifest = split_manifest(house, publication=Publication(3, 20))
        (folder / "sites").mkdir()
        super().__init__(Consortium(house, folder / "run", manifest), folder / "sites")
        keys = house.site_keys.items()
        self.books = {site: RosterBook(private_folder(folder / f"rosters-{site}"), key) for site, key in keys}
        self.first, self.second = self.server(), self.server()
        for server in (self.first, self.second):
            for site in SITES:
                self.join(server, site)

    def signed(self, round: int, sites: tuple[str, ...], *, pooled: bool) -> dict:
        """Arguments of `train` for a round that begins with the initial parameters, signed by the agents."""
        entries = tuple(RosterEntry(site, self.features(site).index.hash) for site in sites)
        roster = Roster(self.manifest.hash, round, entries, NO_RECEIPT, pooled)
        signatures = {
            site: self.books[site].sign(
                roster, self.manifest, site=site, own_inputs={sha256}, last_receipt=NO_RECEIPT
            )
            for site, sha256 in ((entry.site, entry.sha256) for entry in entries)
        }
        return {"round": round, "roster": msgspec.to_builtins(roster), "countersignatures": signatures}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pools")
    made = Pools(House(folder, SITES), folder)
    yield made
    made.consortium.close()


@pytest.fixture(scope="module")
def scored(run):
    """Round 1, of all four; the sites see no receipt of it."""
    return run.first.call("train", **run.signed(1, SITES, pooled=True))


def test_scores_are_not_pooled_over_one_hospital_less_by_another_life_of_the_server(run, scored, code_of):
    """Doris's own scores are the difference of the two."""
    assert scored["metrics"]["pooled"]["rows"] == 32
    assert code_of(run.signed, 2, SITES[:3], pooled=True) == "roster.another_pool"
    reported = run.second.call("train", **run.signed(2, SITES[:3], pooled=False))
    assert "pooled" not in reported["metrics"]
    assert parse_receipt(reported["receipt"]).receipt.scoring.withheld == "not_pooled"


def test_nor_over_the_same_ones_and_the_same_parameters_again(run, scored, code_of):
    """With features of its own choice in each, one of them would find where the rounding turns."""
    assert code_of(run.signed, 3, SITES, pooled=True) == "roster.another_pool"


def test_a_list_that_lets_no_scores_be_pooled_is_not_passed_off_as_one_that_does(run, scored, code_of):
    reported = run.signed(3, SITES, pooled=False)
    reported["roster"]["pooled"] = True
    assert code_of(run.first.call, "evaluate", **reported) == "roster.bad_countersignature"
    del reported["roster"]["pooled"]
    assert code_of(run.first.call, "evaluate", **reported) == "program.bad_arguments"


class Averages(Consortium):
    """The same in Method 1: two aggregators, to each of which all four hospitals' slices are admitted. What
    they seal is made up here, as only the scores in it matter."""

    def __init__(self, folder) -> None:
        house = House(folder, SITES)
        super().__init__(house, folder / "run", house.manifest(publication=Publication(3, 20)))
        keys = house.site_keys.items()
        self.books = {site: RosterBook(private_folder(folder / f"rosters-{site}"), key) for site, key in keys}
        self.initial = load_learner(
            self.manifest, "anna", house.model, house.rows["anna"], DATASET_KEY
        ).initial
        self.first, self.second = self.aggregator(), self.aggregator()
        self.slices = {
            server: {site: self.rogue(server, site) for site in SITES} for server in (self.first, self.second)
        }

    def signed(self, server, round: int, sites: tuple[str, ...], *, pooled: bool) -> dict:
        """Arguments of `aggregate` for a round that begins with the initial parameters."""
        enclosed = Enclosed(NO_RECEIPT, 12, Scores(8, 8, 4, 5.0, ((2, 2), (2, 2))))
        sealed = {
            site: self.contribute(server, self.slices[server][site], site, round, enclosed, self.initial)
            for site in sites
        }
        entries = tuple(RosterEntry(site, sealed[site]) for site in sites)
        roster = Roster(self.manifest.hash, round, entries, NO_RECEIPT, pooled)
        signatures = {
            site: self.books[site].sign(
                roster, self.manifest, site=site, own_inputs={sealed[site]}, last_receipt=NO_RECEIPT
            )
            for site in sites
        }
        return {"round": round, "roster": msgspec.to_builtins(roster), "countersignatures": signatures}


def test_nor_by_another_life_of_the_aggregator(tmp_path, code_of):
    world = Averages(tmp_path)
    first = world.first.call("aggregate", **world.signed(world.first, 1, SITES, pooled=True))
    assert first["metrics"]["pooled"]["rows"] == 32
    for sites in (SITES[:3], SITES):
        assert code_of(world.signed, world.second, 2, sites, pooled=True) == "roster.another_pool"
    reported = world.second.call("aggregate", **world.signed(world.second, 2, SITES[:3], pooled=False))
    assert "pooled" not in reported["metrics"]
    assert parse_receipt(reported["receipt"]).receipt.scoring.withheld == "not_pooled"
    world.close()
