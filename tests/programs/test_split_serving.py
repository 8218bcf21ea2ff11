"""A trained split server, in a real process, serves what it has trained, also after kill -9."""

from __future__ import annotations

import shutil

import msgspec
import pytest

from contracts.manifest import Release
from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from contracts.refusal import Refusal
from contracts.sealed.session import ClientHello, SessionChannel, decode, encode
from enclave.programs.publication import grain
from enclave.slicing.models import load
from enclave.slicing.questions import ask_about, read_probabilities
from enclave.slicing.split import Front
from enclave.training.row_reader import encode as tokenised
from enclave.training.row_reader import read_rows
from tests.programs.conftest import House
from tests.programs.split_house import SplitRun, split_manifest
from tests.support.loose_host import LooseHost
from tests.support.on_disk import contents

pytestmark = pytest.mark.enosys

SITES = ("anna", "berta", "clara")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Three sites: the scores of fewer are told to nobody."""
    return House(tmp_path_factory.mktemp("house"), SITES)


@pytest.fixture(scope="module")
def run(house, tmp_path_factory, consortium_class):
    folder = tmp_path_factory.mktemp("served")
    manifest = split_manifest(house, release=Release("serve-only", 2))
    consortium = consortium_class(house, folder / "run", manifest)
    (folder / "sites").mkdir()
    run = SplitRun(consortium, folder / "sites")
    run.the_server = run.server()
    run.early = [refusal_code(lambda: enter(run, run.the_server))]
    for site in SITES:
        run.join(run.the_server, site)
    run.results.append(run.round(run.the_server, 1))
    run.early.append(refusal_code(lambda: enter(run, run.the_server)))
    run.rounds(run.the_server, 2, receipt_hash(parse_receipt(run.results[0]["receipt"]).receipt))
    state = run.results[-1]["state"]["sha256"]
    run.sealed_state = shutil.copy(run.the_server.mailbox.collect(state), folder / "last-state")
    yield run
    consortium.close()


def refusal_code(act) -> str:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value.code


def enter(run: SplitRun, server: LooseHost, site: str = "anna") -> SessionChannel:
    run.order(server)
    claims = server.call("evidence", nonce="00" * 32)["claims"]
    keys = {"hpke_key": claims["hpke_key"], "signing_key": claims["signing_key"], "receipt": run.last}
    hello = ClientHello(run.manifest.hash, site, run.consortium.house.site_keys[site], **keys)
    reported = server.call("open", opening=msgspec.to_builtins(hello.opening))
    return hello.finish(reported["session"], decode(reported["proof"]))


def question(run: SplitRun, site: str = "anna") -> tuple[bytes, list[int]]:
    """A question about the site's test rows, and their true labels."""
    model, tokenizer = load(run.consortium.house.model, run.manifest.model)
    rows = read_rows(run.consortium.house.rows[site], run.manifest.model, "text-label").test
    examples = tokenised(rows, tokenizer, run.manifest.model)
    return ask_about(Front(model, 1), examples.tokens, examples.padding), examples.targets or []


def ask(server: LooseHost, channel: SessionChannel, asked: bytes) -> bytes:
    number = channel.sent
    reply = server.call("step", session=channel.name, number=number, sealed=encode(channel.seal(asked)))
    return channel.open(decode(reply["sealed"]))


def test_nothing_is_served_before_the_training_is_over(run):
    assert run.early == ["serving.not_ready"] * 2


def test_what_is_served_is_what_the_test_has_scored(run):
    right = total = 0
    for site in SITES:
        asked, targets = question(run, site)
        channel = enter(run, run.the_server, site)
        rows = read_probabilities(ask(run.the_server, channel, asked), len(targets), 2)
        right += sum(
            max(range(2), key=row.__getitem__) == target for row, target in zip(rows, targets, strict=True)
        )
        total += len(targets)
    scored = run.results[-1]["metrics"]["test"]
    assert scored["rows"] == total
    assert abs(right / total - scored["accuracy"]) <= grain(total) / 2


def test_after_kill_minus_nine_a_restored_server_gives_the_same_answers_to_replayed_features(run):
    asked, _ = question(run)
    channel = enter(run, run.the_server)
    before = ask(run.the_server, channel, asked)
    state = run.results[-1]["state"]["sha256"]
    sealed = run.the_server.mailbox.collect(state)
    successor = run.server()
    successor.mailbox.deliver(sealed, state)
    run.the_server.kill()
    successor.call("restore", state=state)
    run.name(successor)
    assert refusal_code(lambda: ask(successor, channel, asked)) == "serving.unknown_session"
    assert ask(successor, enter(run, successor), asked) == before
    run.the_server = successor


def test_no_answer_and_no_feature_is_on_the_hosts_side_of_the_server(run):
    asked, targets = question(run)
    answer = ask(run.the_server, enter(run, run.the_server), asked)
    features = asked[-len(targets) * 64 :]
    for file, content in contents(run.the_server.mailbox.folder):
        assert answer not in content and features not in content, file


def test_a_restored_state_serves_when_enough_sites_have_named_its_receipt_and_else_nobody(run):
    state = run.results[-1]["state"]["sha256"]
    server = run.server()
    server.mailbox.deliver(run.sealed_state, state)
    server.call("restore", state=state)
    assert refusal_code(lambda: enter(run, server)) == "state.not_named"
    run.name(server, ("anna",))
    run.name(server, ("berta",), receipt="e" * 64)
    assert refusal_code(lambda: enter(run, server)) == "state.not_named"
    assert server.call("status")["named"] is False
    run.name(server, ("berta",))
    assert server.call("status")["named"] is True
    asked, _ = question(run)
    assert ask(server, enter(run, server), asked) == ask(run.the_server, enter(run, run.the_server), asked)


def test_a_site_that_knows_another_last_receipt_is_not_served(run):
    kept = run.results
    run.results = kept[:-1]
    try:
        assert refusal_code(lambda: enter(run, run.the_server)) == "serving.another_past"
    finally:
        run.results = kept
