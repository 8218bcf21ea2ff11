"""Members that some hospitals have confirmed and others have not, before a real split server (decision 29).

Anna has compared Berta's keys alone; Berta and Clara have compared everybody's. Clara may be the
coordinator's own: whatever the enclave counts, Anna's view of it is the smallest.
"""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace

import msgspec
import pytest

from contracts.manifest import Aggregation, KeyShares, Publication, Release, Split, Training
from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from contracts.sealed.handback import HandedBack, hand_back
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.session import encode
from contracts.sealed.shards import wrap_keys
from contracts.sealed.shares import withdraw
from contracts.sealed.state import read_escrow
from tests.attacks.forger import Forger
from tests.programs.conftest import Consortium, House
from tests.programs.split_house import SplitRun, split_manifest
from tests.support.approvals import approvals

SITES = ("anna", "berta", "clara")
KNOWS = {"anna": ("anna", "berta"), "berta": SITES, "clara": SITES}
MACHINE = "a machine without a sealing key"


class Attacked(SplitRun):
    """A run of one training round, whose server's state lies under shares."""

    def __init__(self, house: House, folder) -> None:
        manifest = split_manifest(
            house,
            training=Training(rounds=1, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7),
            aggregation=Aggregation("fedavg", quorum=2, deadline_seconds=60),
            publication=Publication(3, 20),
            release=Release("export", 2),
            split=Split(1, shares=KeyShares(2)),
        )
        world = Consortium(house, folder / "run", manifest)
        world.approvals = msgspec.to_builtins(approvals(manifest, house.site_keys, **KNOWS))
        (folder / "sites").mkdir()
        super().__init__(world, folder / "sites")
        self.share_keys = {site: HpkeKey.generate() for site in SITES}
        self.forger = Forger(self)

    def server(self, **_ignored):
        server = self.consortium.bound("split_server", MACHINE)
        server.call("prepare", model=str(self.consortium.house.model))
        return server

    def receiver(self, server) -> str:
        return server.call("evidence", nonce="00" * 32)["claims"]["hpke_key"]

    def join(self, server, site) -> dict:
        """As an agent does where the sites hold shares: it says to which key its own is to be wrapped."""
        kept, sealed = self.features(site), BytesIO()
        reported = {"manifest": self.manifest.hash, "receiver": self.receiver(server), "receipt": self.last}
        keys = [bytes.fromhex(key) for key in kept.keys]
        signer = self.consortium.house.site_keys[site]
        own = self.share_keys[site].public
        name = wrap_keys(kept.index, keys, sealed, signer=signer, share_key=own, **reported).sha256
        (self.folder / name).write_bytes(sealed.getvalue())
        server.mailbox.deliver(self.folder / name, name)
        for place, shard in enumerate(kept.index.shards):
            server.mailbox.deliver(self.store(site).file(place, kept.index), shard.sha256)
        return server.call("features", site=site, keys=name)

    def hand_back(self, server, site, share=None) -> None:
        sealed = hand_back(
            HandedBack(self.last, share),
            manifest=self.manifest.hash,
            site=site,
            receiver=self.receiver(server),
            signer=self.consortium.house.site_keys[site],
        )
        server.call("share", site=site, sealed=encode(sealed))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partial")
    house = House(folder, SITES)
    house.platforms[MACHINE] = house.platforms["coordinator"]
    (house.platforms[MACHINE] / "sealing.secret").write_bytes(b"")
    made = Attacked(house, folder)
    made.first = made.server()
    for site in SITES:
        made.join(made.first, site)
    yield made
    made.consortium.close()


def test_a_member_that_one_hospital_has_not_confirmed_fills_no_roster(run, refusal_of):
    for pair in (("anna", "clara"), ("berta", "clara")):
        refusal = refusal_of(run.round, run.first, 1, sites=pair)
        assert (refusal.code, refusal.facts["found"]) == ("roster.below_quorum", 1)


@pytest.fixture(scope="module")
def finished(run):
    """All three have trained and been scored; an instance of the server after that knows the last receipt."""
    run.rounds(run.first)
    run.second = run.server()
    state = run.results[-1]["state"]["sha256"]
    run.consortium.move(state, run.first, run.second)
    with run.first.mailbox.collect(state).open("rb") as file:
        escrow = read_escrow(file)
    return SimpleNamespace(run=run, state=state, escrow=escrow)


def test_no_score_is_pooled_over_a_member_that_one_hospital_has_not_confirmed(finished):
    for result in finished.run.results:
        assert "pooled" not in result["metrics"]
        assert parse_receipt(result["receipt"]).receipt.scoring.withheld == "too_few_sites"


def test_it_holds_no_share_of_the_states_key(finished):
    assert set(finished.escrow.shares) == {"anna", "berta"}


def test_its_order_lets_no_parameters_out(finished, refusal_of):
    run = finished.run
    for pair in (("anna", "clara"), ("berta", "clara")):
        refusal = refusal_of(run.forger.release, run.first, run.last, pair)
        assert (refusal.code, refusal.facts["found"]) == ("release.too_few", 1)
    assert run.forger.release(run.first, run.last, ("anna", "berta"))["output"]["bytes"] > 0


def test_its_word_names_no_state_and_opens_no_session(finished, refusal_of):
    """Berta hands her share back, and a copy of Anna's host hands back Anna's without naming the receipt."""
    run = finished.run
    for site in ("anna", "berta"):
        share = withdraw(finished.escrow, site, run.share_keys[site], run.manifest.hash)
        run.hand_back(run.second, site, share)
    run.name(run.second, ("anna",), "e" * 64)
    run.second.call("restore", state=finished.state)
    run.name(run.second, ("clara",))
    refusal = refusal_of(run.forger.session, run.second, "berta")
    assert (refusal.code, refusal.facts["found"]) == ("state.not_named", 1)
    run.name(run.second, ("anna",))
    refusal = refusal_of(run.order, run.second, ("anna", "clara"))
    assert (refusal.code, refusal.facts["found"]) == ("release.too_few", 1)
    run.order(run.second, ("anna", "berta"))
    run.forger.session(run.second, "berta")
    assert receipt_hash(parse_receipt(run.results[-1]["receipt"]).receipt) == run.last
