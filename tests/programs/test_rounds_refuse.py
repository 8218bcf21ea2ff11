"""A hostile coordinator asks for what it should not get: each try ends in a code and changes nothing."""

import hashlib
from dataclasses import replace

import msgspec
import pytest

from contracts.receipts import NO_RECEIPT
from enclave.programs.contributions import Enclosed
from enclave.training.metrics import Scores
from tests.programs.conftest import hash_of

SITES = ("anna", "berta")


@pytest.fixture(scope="module")
def world(house, tmp_path_factory, consortium_class):
    """Both sites have trained round 1; nothing is aggregated yet."""
    world = consortium_class(house, tmp_path_factory.mktemp("rounds") / "run")
    world.agg = world.aggregator()
    world.clients = {site: world.client(site, world.agg) for site in SITES}
    world.spare = world.client("berta")  # loaded, and introduced to nobody yet
    world.blobs = world.train(1, world.agg, world.clients)
    yield world
    world.close()


def deliver(process, content, tmp_path) -> str:
    name = hashlib.sha256(content).hexdigest()
    (tmp_path / name).write_bytes(content)
    process.mailbox.deliver(tmp_path / name, name)
    return name


def inspect(world, site, sha256, round=1):
    return world.agg.call("inspect", round=round, site=site, sha256=sha256)


@pytest.fixture
def bad(world, refusal_of):
    """Refused as a contribution of `site`, when inspected and when aggregated, for the same cause."""

    def bad(site, sha256, round=1, previous=NO_RECEIPT):
        seen = refusal_of(inspect, world, site, sha256, round)
        roster = world.roster(round, world.blobs | {site: sha256}, previous)
        refused = refusal_of(world.agg.call, "aggregate", round=round, **roster)
        assert (seen.code, seen.facts) == (refused.code, refused.facts)
        assert seen.code == "round.bad_contribution"
        assert seen.facts["site"] == site
        return seen.facts["cause"]

    return bad


def content(world, site) -> bytes:
    return world.clients[site].mailbox.collect(world.blobs[site]).read_bytes()


def test_a_good_contribution_can_be_inspected_as_often_as_one_likes(world):
    for _ in range(2):
        answer = inspect(world, "anna", world.blobs["anna"])
        assert answer == {"site": "anna", "sha256": world.blobs["anna"], "samples": 12}


@pytest.mark.parametrize("place", [30, 2000, -100, -1])
def test_a_tampered_contribution_is_refused(world, bad, tmp_path, place):
    data = bytearray(content(world, "anna"))
    data[place] ^= 1
    assert bad("anna", deliver(world.agg, bytes(data), tmp_path)) == "sealing.refused"


@pytest.mark.parametrize("keep", [40, 3000, -1])
def test_a_truncated_contribution_is_refused(world, bad, tmp_path, keep):
    assert bad("anna", deliver(world.agg, content(world, "anna")[:keep], tmp_path)) == "sealing.refused"


def test_something_that_is_not_sealed_is_refused(world, bad, tmp_path):
    assert bad("anna", deliver(world.agg, b"plain", tmp_path)) == "sealing.not_sealed"


def test_one_sites_contribution_does_not_pass_as_anothers(world, code_of, refusal_of):
    refusal = refusal_of(inspect, world, "berta", world.blobs["anna"])
    assert (refusal.code, refusal.facts["cause"]) == ("round.bad_contribution", "sealing.refused")
    roster = world.roster(1, dict.fromkeys(SITES, world.blobs["anna"]))
    assert code_of(world.agg.call, "aggregate", round=1, **roster) == "roster.invalid"


def test_a_contribution_replayed_into_another_round_is_refused(world, bad):
    assert bad("anna", world.blobs["anna"], round=2) == "sealing.refused"
    assert bad("anna", world.blobs["anna"], round=3) == "sealing.refused"


def test_a_contribution_to_another_run_is_refused(world, bad):
    """By an admitted key and for this aggregator: only the manifest differs."""
    admitted = world.rogue(world.agg, "anna")
    enclosed = Enclosed(NO_RECEIPT, 12, Scores(8, 8, 4, 5.0, ((2, 2), (2, 2))))
    foreign = replace(admitted, manifest_hash="5" * 64)
    assert bad("anna", world.contribute(world.agg, foreign, "anna", 1, enclosed, {})) == "sealing.refused"
    own = world.contribute(world.agg, admitted, "anna", 1, enclosed, {})
    assert bad("anna", own) == "tensors.names"  # opened: of this run, and empty
    world.introduce(
        world.agg, world.clients["anna"], "anna"
    )  # the newest instance is who the next state is for


def test_a_contribution_sealed_for_another_aggregator_is_refused(world, refusal_of):
    """Of the same run, with the same client slice admitted: only the receiver's key differs."""
    other = world.aggregator()
    evidence = world.evidence(world.clients["anna"], other.call("challenge", site="anna")["nonce"])
    other.call("admit", site="anna", evidence=evidence, endorsement=world.endorsement("anna", evidence))
    world.move(world.blobs["anna"], world.clients["anna"], other)
    refusal = refusal_of(other.call, "inspect", round=1, site="anna", sha256=world.blobs["anna"])
    assert (refusal.code, refusal.facts["cause"]) == ("round.bad_contribution", "sealing.refused")
    code = refusal_of(other.call, "inspect", round=1, site="berta", sha256=world.blobs["berta"]).code
    assert code == "admission.not_admitted"
    other.stop()


def test_a_missing_or_swapped_file_is_the_hosts_fault_not_the_sites(world, code_of):
    assert code_of(inspect, world, "anna", "0" * 64) == "mailbox.missing"
    swapped = world.agg.mailbox.folder / "in" / ("1" * 64)
    swapped.write_bytes(content(world, "anna"))
    assert code_of(inspect, world, "anna", "1" * 64) == "mailbox.hash_mismatch"


def test_who_contributes_is_what_all_of_them_have_countersigned(world, code_of):
    def aggregate(**arguments):
        return code_of(world.agg.call, "aggregate", **({"round": 1} | arguments))

    good = world.roster(1, world.blobs)
    only_anna = {"anna": good["countersignatures"]["anna"]}
    swapped = {"anna": good["countersignatures"]["berta"], "berta": good["countersignatures"]["anna"]}
    assert aggregate(**good | {"countersignatures": only_anna}) == "roster.not_countersigned"
    assert aggregate(**good | {"countersignatures": swapped}) == "roster.bad_countersignature"
    assert aggregate(**world.roster(1, {"anna": world.blobs["anna"]})) == "roster.below_quorum"
    assert aggregate(**world.roster(2, world.blobs)) == "roster.invalid"
    assert aggregate(**world.roster(1, world.blobs, "5" * 64)) == "round.wrong_receipt"
    other = good["roster"] | {"manifest": "5" * 64}
    assert aggregate(**good | {"roster": other}) == "roster.invalid"
    changed = msgspec.json.decode(msgspec.json.encode(good["roster"]))
    changed["inputs"][0]["sha256"] = "5" * 64
    assert aggregate(**good | {"roster": changed}) == "roster.bad_countersignature"


def test_rounds_beyond_the_last_and_an_evaluation_of_nothing_are_refused(world, code_of):
    last = world.manifest.last_round
    for number in (world.manifest.training.rounds + 1, last, last + 1):
        asked = {"round": number, **world.roster(number, world.blobs)}
        assert code_of(world.agg.call, "aggregate", **asked) == "round.nothing_yet"
    assert code_of(world.agg.call, "reissue") == "round.nothing_yet"


def test_a_client_slice_seals_nothing_for_an_aggregator_that_it_has_not_verified(world, code_of):
    assert code_of(world.spare.call, "train", round=1, previous=None) == "admission.not_admitted"
    assert list((world.spare.mailbox.folder / "out").iterdir()) == []


@pytest.fixture(scope="module")
def done(world):
    """After all the refusals above, round 1 is aggregated and published."""
    assert world.agg.call("status")["round"] == 0
    world.result = world.agg.call("aggregate", round=1, **world.roster(1, world.blobs))
    world.previous = world.publish(world.result, world.agg, world.clients)
    return world


def test_a_round_is_aggregated_once_only(done, code_of):
    again = done.roster(1, done.blobs)
    assert code_of(done.agg.call, "aggregate", round=1, **again) == "round.already_aggregated"
    after = done.roster(1, done.blobs, done.agg.call("status")["receipt"])
    assert code_of(done.agg.call, "aggregate", round=1, **after) == "round.already_aggregated"
    last = hash_of(done.result["receipt"])
    assert (done.agg.call("status")["round"], done.agg.call("status")["receipt"]) == (1, last)


def test_last_rounds_contribution_is_none_to_the_next(done, bad):
    assert bad("anna", done.blobs["anna"], 2, done.agg.call("status")["receipt"]) == "sealing.refused"


@pytest.fixture
def train_code(done, code_of):
    def train_code(site="anna", round=2, **changes):
        return code_of(done.clients[site].call, "train", round=round, previous=done.previous | changes)

    return train_code


def test_a_changed_receipt_is_refused_inside_the_client_slice(done, train_code):
    def changed(**fields):
        signed = msgspec.json.decode(msgspec.json.encode(done.previous["receipt"]))
        signed["receipt"] |= fields
        return signed

    assert train_code(receipt=changed(round=2)) == "sealing.bad_signature"
    assert train_code(receipt=changed(previous="5" * 64)) == "sealing.bad_signature"
    assert train_code(receipt=done.previous["receipt"] | {"signing_key": "5" * 64}) == "sealing.bad_signature"


def test_a_file_that_the_receipt_does_not_name_is_refused(done, train_code):
    assert train_code(sha256="0" * 64) == "round.wrong_receipt"
    assert train_code(sha256=done.result["state"]["sha256"]) == "round.wrong_receipt"


def test_a_swapped_next_state_is_refused(done, train_code):
    file = done.clients["anna"].mailbox.folder / "in" / done.previous["sha256"]
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert train_code() in ("sealing.refused", "mailbox.hash_mismatch")
    file.unlink()
    assert train_code() == "mailbox.missing"
    file.write_bytes(good)


def test_a_round_that_was_answered_is_not_answered_on_its_own_receipt(done, train_code):
    assert train_code(round=1) == "round.answered"


def test_a_client_slice_never_goes_back(done, train_code, code_of):
    second = done.clients["anna"].call("train", round=2, previous=done.previous)
    assert code_of(done.clients["anna"].call, "train", round=2, previous=None) == "round.answered"
    assert train_code(round=1) == "round.out_of_order"
    assert done.clients["anna"].call("train", round=2, previous=done.previous) == second


def test_training_in_the_closing_round_and_evaluating_before_it_are_refused(done, train_code, code_of):
    assert train_code(round=4) == "round.out_of_order"
    evaluate = done.clients["berta"].call
    assert code_of(evaluate, "evaluate", round=2, previous=done.previous) == "round.out_of_order"


def test_a_contribution_of_a_life_that_has_not_the_rounds_state_is_refused(done, refusal_of):
    """A client slice that was started again can be told by its host that nothing came before."""
    done.introduce(done.agg, done.spare, "berta")
    update = done.spare.call("train", round=2, previous=None)["update"]["sha256"]
    done.move(update, done.spare, done.agg)
    refusal = refusal_of(inspect, done, "berta", update, round=2)
    assert (refusal.facts["site"], refusal.facts["cause"]) == ("berta", "sealing.refused")


def test_the_run_goes_on_after_all_this(done):
    result = done.round(2, done.agg, done.clients, done.previous)
    assert result["receipt"]["receipt"]["round"] == 2
