"""The coordinator and one site put a model of their own in the place of the trained one (Method 2).

Every server here is a genuine split server in a process of its own; the honest site is `anna`.
"""

from __future__ import annotations

import msgspec
import pytest

from contracts.manifest import Aggregation, KeyShares, Release, Split
from contracts.receipts import receipt_hash
from contracts.refusal import Refusal
from tests.attacks.forger import ACCOMPLICE, HONEST, Forger, last_of
from tests.programs.split_house import SplitRun, split_manifest

LOOSE = {
    "aggregation": Aggregation("fedavg", quorum=1, deadline_seconds=60),
    "release": Release("export", 1),
}
"""The weakest rules that a manifest may have: what holds under these holds under all."""


IN_SHARES = {"split": Split(1, shares=KeyShares(2))}


@pytest.fixture(scope="module")
def begin(house, keyless, tmp_path_factory, consortium_class):
    made = []

    def begin(**changes) -> SplitRun:
        folder = tmp_path_factory.mktemp("made-up")
        consortium = consortium_class(house, folder / "run", split_manifest(house, **LOOSE | changes))
        made.append(consortium)
        (folder / "sites").mkdir()
        return SplitRun(consortium, folder / "sites")

    yield begin
    for consortium in made:
        consortium.close()


@pytest.fixture(scope="module")
def with_key(begin):
    """A finished run on a machine with a sealing key."""
    run = begin()
    run.the_server = run.server()
    for site in (HONEST, ACCOMPLICE):
        run.join(run.the_server, site)
    run.rounds(run.the_server)
    return run


def keyless_server(run: SplitRun, host: str):
    server = run.consortium.bound("split_server", host)
    server.call("prepare", model=str(run.consortium.house.model))
    return server


def test_a_made_up_state_in_shares_is_refused_where_the_tee_has_a_sealing_key(with_key, code_of):
    forger, server = Forger(with_key), with_key.server()
    draft = forger.receipt(last_of(with_key.results), 3)
    state, escrow, receipt = forger.state(draft, threshold=1)
    taken = code_of(forger.share, server, ACCOMPLICE, escrow, receipt_hash(receipt))
    assert taken == "state.no_shares"
    assert code_of(forger.restore, server, state) == "state.no_shares"


def test_the_hosts_own_threshold_opens_nothing(begin, keyless, code_of):
    run = begin(**IN_SHARES)
    forger, server = Forger(run), keyless_server(run, keyless)
    state, escrow, receipt = forger.state(forger.receipt(None, 3), threshold=1)
    forger.share(server, ACCOMPLICE, escrow, receipt_hash(receipt))
    assert code_of(forger.restore, server, state) == "shares.other_escrow"


def test_nothing_is_done_with_a_made_up_state_that_one_site_alone_has_named(begin, keyless, code_of):
    """Both shares have come back: the honest site's agent handed its own back, and named what it knows."""
    run = begin(**IN_SHARES)
    forger, codes = Forger(run), []
    for round in (1, 3):  # in the middle of training, and after it
        server = keyless_server(run, keyless)
        made_up = forger.state(forger.receipt(None, round), threshold=2, sites=(HONEST, ACCOMPLICE))
        state, escrow, receipt = made_up
        forger.share(server, HONEST, escrow, "e" * 64)
        forger.share(server, ACCOMPLICE, escrow, receipt_hash(receipt))
        assert forger.restore(server, state)["round"] == round
        run.join(server, ACCOMPLICE)
        if round < 3:
            codes.append(code_of(run.round, server, round + 1, receipt_hash(receipt), sites=(ACCOMPLICE,)))
        else:
            codes.append(code_of(forger.release, server, receipt_hash(receipt)))
            codes.append(code_of(forger.session, server, HONEST))
    assert codes == ["state.not_named"] * len(codes)


def test_one_countersigned_round_does_not_make_a_made_up_state_the_runs_own(begin, keyless):
    run = begin(**IN_SHARES)
    forger, server = Forger(run), keyless_server(run, keyless)
    made_up = forger.state(forger.receipt(None, 1), threshold=2, sites=(HONEST, ACCOMPLICE))
    state, escrow, receipt = made_up
    forger.share(server, HONEST, escrow, "e" * 64)
    forger.share(server, ACCOMPLICE, escrow, receipt_hash(receipt))
    forger.restore(server, state)
    run.join(server, ACCOMPLICE)
    previous, codes = receipt_hash(receipt), []
    for number in (2, 3):
        try:
            result = run.round(server, number, previous, sites=(ACCOMPLICE,))
            previous = receipt_hash(msgspec.convert(result["receipt"]["receipt"], type(receipt)))
        except Refusal as refusal:
            codes.append(refusal.code)
    assert server.call("status")["named"] is False
    with pytest.raises(Refusal) as caught:
        forger.session(server, HONEST)
    assert caught.value.code in ("state.not_named", "serving.not_ready")
    assert codes[0] == "state.not_named"
