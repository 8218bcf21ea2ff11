"""The best round, in a real process: what the closing receipt stands for is what the best round has made, and
a host that brings another state has it refused. The choice itself: tests/sealing/test_best.py."""

from __future__ import annotations

import msgspec
import pytest
import torch

from contracts.manifest import Release, Training
from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.sealed.session import ClientHello
from tests.programs.conftest import House
from tests.programs.split_house import SplitRun, split_manifest
from tests.programs.test_split_server import last_parameters

SITES = ("anna", "berta", "clara")
OVERSHOOTING = Training(rounds=2, local_epochs=2, batch_size=4, learning_rate=0.9, seed=7)
"""So fast that one of the rounds makes worse what the model knew."""


@pytest.fixture(scope="module")
def run(tmp_path_factory, consortium_class):
    house = House(tmp_path_factory.mktemp("house"), SITES)
    folder = tmp_path_factory.mktemp("best")
    manifest = split_manifest(house, training=OVERSHOOTING, release=Release("serve-only", 2))
    run = SplitRun(consortium_class(house, folder / "run", manifest), folder / "sites")
    run.folder.mkdir()
    run.the_server = run.server()
    for site in SITES:
        run.join(run.the_server, site)
    run.rounds(run.the_server)
    yield run
    run.consortium.close()


def receipts(run):
    return [parse_receipt(result["receipt"]).receipt for result in run.results]


def restored(run, place):
    """A server that was started with the state of this round, and heard which receipt is the last."""
    server, state = run.server(), run.results[place]["state"]["sha256"]
    run.consortium.move(state, run.the_server, server)
    server.call("restore", state=state)
    run.name(server)
    return server


def hello(run, server):
    run.order(server)
    claims = server.call("evidence", nonce="00" * 32)["claims"]
    keys = {"hpke_key": claims["hpke_key"], "signing_key": claims["signing_key"], "receipt": run.last}
    asks = ClientHello(run.manifest.hash, "anna", run.consortium.house.site_keys["anna"], **keys)
    return server.call("open", opening=msgspec.to_builtins(asks.opening))


def test_the_state_of_the_closing_receipt_is_what_the_best_round_has_made(run):
    first, second, closing, test = receipts(run)
    losses = {1: second.metrics["pooled"]["loss"], 2: closing.metrics["pooled"]["loss"]}
    best = min(losses, key=lambda number: (losses[number], -number))
    assert losses[best] < losses[3 - best], "the rounds differ, or this shows nothing"
    assert closing.best == test.best and closing.best.round == best
    assert closing.best.receipt == receipt_hash((first, second)[best - 1])
    made = last_parameters(run, run.the_server, run.results[best - 1])
    other = last_parameters(run, run.the_server, run.results[2 - best])
    for place in (2, 3):
        chosen = last_parameters(run, run.the_server, run.results[place])
        assert not any(name.startswith("best/") for name in chosen)
        assert all(torch.equal(chosen[name], made[name]) for name in chosen)
        assert any(not torch.equal(chosen[name], other[name]) for name in chosen)


def test_no_other_rounds_state_is_served(run, code_of):
    """The last round's, the best one's as it was sealed then, the closing one's once a test has followed."""
    assert [code_of(hello, run, restored(run, place)) for place in (0, 1)] == ["serving.not_ready"] * 2
    assert code_of(hello, run, restored(run, 2)) == "state.not_named"
    assert hello(run, restored(run, 3))["session"]


def test_the_closing_round_is_entered_once_and_the_test_after_it_alone(run, code_of):
    after = {place: receipt_hash(receipt) for place, receipt in enumerate(receipts(run))}
    test = run.manifest.last_round
    early = restored(run, 1)
    assert code_of(run.round, early, test, after[1]) == "round.out_of_order"
    closed = restored(run, 2)
    for number in (2, 3, 4, 5):
        assert code_of(run.round, closed, number, after[2]) in (
            "round.out_of_order", "round.already_aggregated"
        )  # fmt: skip
    assert code_of(run.round, run.the_server, test, after[3]) == "round.finished"


def test_the_scores_of_one_site_choose_nothing(run):
    """Two sites were kept away from the closing round: the last parameters stand, and the receipt says so."""
    from contracts.manifest import Aggregation

    alone = split_manifest(
        run.consortium.house,
        training=Training(rounds=1, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7),
        aggregation=Aggregation("fedavg", quorum=1, deadline_seconds=60),
    )
    kept = SplitRun(
        type(run.consortium)(run.consortium.house, run.folder / "alone", alone), run.folder / "few"
    )
    kept.folder.mkdir()
    try:
        server = kept.server()
        for site in SITES:
            kept.join(server, site)
        kept.results.append(kept.round(server, 1, NO_RECEIPT))
        closing = kept.round(server, 2, kept.last, ("anna",))["receipt"]["receipt"]
        assert closing["best"] is None and closing["scoring"]["withheld"] == "too_few_sites"
        assert "pooled" not in closing["metrics"]
    finally:
        kept.consortium.close()
