"""A host starts its client slice again and again: each instance has answered nothing yet, and has new keys.

Without the count, any number of instances got the state of any round, from a restored aggregator as well.
"""

import pytest

from contracts.manifest import Aggregation
from tests.programs.conftest import Consortium, House, code_of, hash_of, house, refusal_of

__all__ = ["code_of", "house", "refusal_of"]

SITES = ("anna", "berta")


@pytest.fixture(scope="module")
def world(house: House, tmp_path_factory):
    """Round 1 is done, by one instance of each site; two are allowed."""
    manifest = house.manifest(aggregation=Aggregation("fedavg", quorum=2, deadline_seconds=60, instances=2))
    world = Consortium(house, tmp_path_factory.mktemp("instances") / "run", manifest)
    world.first = world.aggregator()
    world.clients = {site: world.client(site, world.first) for site in SITES}
    world.result = world.round(1, world.first, world.clients)
    world.previous = world.publish(world.result, world.first, world.clients)
    yield world
    world.close()


def restored(world):
    """Another aggregator, into which the host puts the state of round 1."""
    again = world.aggregator()
    again.call("restore", state=world.move(world.result["state"]["sha256"], world.first, again))
    return again


def test_the_receipt_counts_each_sites_instances_and_names_the_one_that_holds_the_state(world):
    keys = {site: client.call("evidence", nonce="00" * 32) for site, client in world.clients.items()}
    assert world.result["receipt"]["receipt"]["instances"] == [
        {"site": site, "begun": 1, "holder": keys[site]["claims"]["signing_key"], "features": None}
        for site in SITES
    ]


def test_a_second_instance_opens_nothing_that_was_sealed_to_the_first(world, code_of):
    """Admitted by nobody who would seal to it, it has the first one's files and its site's rows."""
    twin = world.client("anna")
    world.admit(twin, world.evidence(world.first, twin.call("challenge")["nonce"]))
    sealed = world.clients["anna"].mailbox.folder / "in" / world.previous["sha256"]
    twin.mailbox.deliver(sealed, sealed.name)
    assert code_of(twin.call, "train", round=2, previous=world.previous) == "sealing.refused"
    world.twin = twin


def test_an_aggregator_restored_from_an_old_state_hands_out_no_instance(world, code_of):
    """The host could restore the same state as often as it likes, and have each copy seal it to new keys."""
    for _ in range(2):
        again = restored(world)
        world.introduce(again, world.twin, "anna")
        assert code_of(again.call, "reissue") == "round.not_confirmed"
        again.stop()


def test_of_two_instances_the_state_is_handed_over_to_one_more_and_no_further(world, refusal_of, code_of):
    world.introduce(world.first, world.twin, "anna")
    given = world.first.call("reissue")
    world.move(given["next"]["sha256"], world.first, world.twin)
    previous = {**world.previous, "sha256": given["next"]["sha256"], "reissue": given["reissue"]}
    world.update = world.twin.call("train", round=2, previous=previous)["update"]["sha256"]
    third = world.client("anna", load=False)
    refusal = refusal_of(world.introduce, world.first, third, "anna")
    assert (refusal.code, refusal.facts) == ("admission.too_many_instances", {"site": "anna", "instances": 2})
    again = world.first.call("reissue")
    assert again["recipients"] == given["recipients"]
    third.stop()


def test_instances_stay_counted_after_a_restore_from_the_newest_state(world, refusal_of):
    """Round 2 is concluded by anna's second instance; no aggregator that continues it lets a third one in."""
    clients = {"anna": world.twin, "berta": world.clients["berta"]}
    blobs = {"anna": world.move(world.update, world.twin, world.first)}
    made = clients["berta"].call("train", round=2, previous=world.previous)["update"]["sha256"]
    blobs["berta"] = world.move(made, clients["berta"], world.first)
    roster = world.roster(2, blobs, hash_of(world.previous["receipt"]))
    world.result = world.first.call("aggregate", round=2, **roster)
    assert [count["begun"] for count in world.result["receipt"]["receipt"]["instances"]] == [2, 1]
    again = restored(world)
    third = world.client("anna", load=False)
    assert refusal_of(world.introduce, again, third, "anna").code == "admission.too_many_instances"
    world.introduce(again, world.twin, "anna")  # the instance that is known is no new one
