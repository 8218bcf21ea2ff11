"""A trained split server, in a real process, serves what it has trained, also after kill -9."""

from __future__ import annotations

import msgspec
import pytest

from enclave.errors import Refusal
from enclave.manifest import Release
from enclave.programs.host import EnclaveProcess
from enclave.sealing.session import Channel, Knock, decode, encode
from enclave.slicing.models import load
from enclave.slicing.questions import ask_about, read_probabilities
from enclave.slicing.split import Front
from enclave.training.data import encode as tokenised
from enclave.training.data import read_rows
from tests.programs.split_house import SplitRun, split_manifest


@pytest.fixture(scope="module")
def run(house, tmp_path_factory, consortium_class):
    folder = tmp_path_factory.mktemp("served")
    manifest = split_manifest(house, release=Release("serve-only", 2))
    consortium = consortium_class(house, folder / "run", manifest)
    (folder / "sites").mkdir()
    run = SplitRun(consortium, folder / "sites")
    run.the_server = run.server()
    run.early = refusal_code(lambda: enter(run, run.the_server))
    for site in ("anna", "berta"):
        run.join(run.the_server, site)
    run.rounds(run.the_server)
    yield run
    consortium.close()


def refusal_code(act) -> str:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value.code


def enter(run: SplitRun, server: EnclaveProcess, site: str = "anna") -> Channel:
    claims = server.call("evidence", nonce="00" * 32)["claims"]
    keys = {"hpke_key": claims["hpke_key"], "signing_key": claims["signing_key"]}
    knock = Knock(run.manifest.hash, site, run.consortium.house.site_keys[site], **keys)
    told = server.call("open", opening=msgspec.to_builtins(knock.opening))
    return knock.entered(told["session"], decode(told["proof"]))


def question(run: SplitRun, site: str = "anna") -> tuple[bytes, list[int]]:
    """A question about the site's evaluation rows, and their true labels."""
    model, tokenizer = load(run.consortium.house.model, run.manifest.model)
    rows = read_rows(run.consortium.house.rows[site], run.manifest.model).evaluation
    examples = tokenised(rows, tokenizer, run.manifest.model)
    return ask_about(Front(model, 1), examples.tokens, examples.padding), examples.targets or []


def ask(server: EnclaveProcess, channel: Channel, asked: bytes) -> bytes:
    number = channel.sent
    reply = server.call("step", session=channel.name, number=number, sealed=encode(channel.seal(asked)))
    return channel.open(decode(reply["sealed"]))


def test_nothing_is_served_before_something_was_trained(run):
    assert run.early == "serving.not_ready"


def test_what_is_served_is_what_the_closing_evaluation_has_scored(run):
    asked, targets = question(run)
    rows = read_probabilities(ask(run.the_server, enter(run, run.the_server), asked), len(targets), 2)
    right = sum(
        max(range(2), key=row.__getitem__) == target for row, target in zip(rows, targets, strict=True)
    )
    scored = run.results[-1]["metrics"]["sites"]["anna"]
    assert right / len(targets) == pytest.approx(scored["accuracy"])


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
    assert refusal_code(lambda: ask(successor, channel, asked)) == "serving.unknown_session"
    assert ask(successor, enter(run, successor), asked) == before
    run.the_server = successor


def test_no_answer_and_no_feature_is_on_the_hosts_side_of_the_server(run):
    asked, targets = question(run)
    answer = ask(run.the_server, enter(run, run.the_server), asked)
    features = asked[-len(targets) * 64 :]
    for file in run.the_server.mailbox.folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert answer not in content and features not in content, file
