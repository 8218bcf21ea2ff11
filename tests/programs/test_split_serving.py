"""A trained split server, in a real process, serves what it has trained, also after kill -9."""

from __future__ import annotations

import secrets
import shutil
from io import BytesIO

import msgspec
import pytest

from attestation.sources import open_source
from contracts.manifest import Release
from contracts.receipts import parse_receipt, receipt_hash
from contracts.refusal import Refusal
from contracts.sealed.handback import HandedBack, hand_back
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.session import Channel, Knock, decode, encode
from contracts.sealed.shares import Escrow, deposit, withdraw
from contracts.sealed.state import seal_state, unseal_state
from enclave.programs.publication import step
from enclave.programs.statekeys import label
from enclave.slicing.models import load
from enclave.slicing.questions import ask_about, read_probabilities
from enclave.slicing.split import Front
from enclave.training.data import encode as tokenised
from enclave.training.data import read_rows
from enclave_host.process import EnclaveProcess
from tests.programs.conftest import House
from tests.programs.split_house import SplitRun, split_manifest

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


def test_nothing_is_served_before_the_training_is_over(run):
    assert run.early == ["serving.not_ready"] * 2


def test_what_is_served_is_what_the_closing_evaluation_has_scored(run):
    right = total = 0
    for site in SITES:
        asked, targets = question(run, site)
        channel = enter(run, run.the_server, site)
        rows = read_probabilities(ask(run.the_server, channel, asked), len(targets), 2)
        right += sum(
            max(range(2), key=row.__getitem__) == target for row, target in zip(rows, targets, strict=True)
        )
        total += len(targets)
    scored = run.results[-1]["metrics"]["pooled"]
    assert scored["rows"] == total
    assert abs(right / total - scored["accuracy"]) <= step(total) / 2


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


def made_up(run: SplitRun, shares: dict[str, HpkeKey]) -> tuple[str, Escrow]:
    """The run's last state sealed anew, as a host could that makes up its key, with shares for the sites."""
    source = open_source(
        "development", platform=run.consortium.house.platforms["coordinator"], program="split_server"
    )
    plain = BytesIO()
    with run.sealed_state.open("rb") as file:
        told = unseal_state(
            file,
            plain,
            key=source.sealing_key(label("split_server")),
            program="split_server",
            manifest=run.manifest.hash,
        )
    key = secrets.token_bytes(32)
    receivers = {site: share.public for site, share in shares.items()}
    escrow, sealed = deposit(key, receivers, 2, run.manifest.hash), BytesIO()
    plain.seek(0)
    name = seal_state(plain, sealed, key=key, binding=told.binding, escrow=escrow).sha256
    (run.folder / name).write_bytes(sealed.getvalue())
    return name, escrow


def handed_back(run: SplitRun, server: EnclaveProcess, state: str, escrow: Escrow, **told) -> None:
    """Both sites hand their shares back, naming the receipt `told`; the server restores `state`."""
    server.mailbox.deliver(run.folder / state, state)
    receiver = server.call("evidence", nonce="00" * 32)["claims"]["hpke_key"]
    for site, key in run.consortium.house.site_keys.items():
        share = withdraw(escrow, site, told["shares"][site], run.manifest.hash)
        sealed = hand_back(
            HandedBack(share, told["receipt"]),
            manifest=run.manifest.hash,
            site=site,
            receiver=receiver,
            signer=key,
        )
        server.call("share", site=site, sealed=encode(sealed))
    server.call("restore", state=state)


def test_a_state_that_only_shares_open_serves_when_the_sites_name_its_receipt_and_else_nobody(run):
    shares = {site: HpkeKey.generate() for site in run.consortium.house.site_keys}
    last = parse_receipt(run.results[-1]["receipt"]).receipt
    state, escrow = made_up(run, shares)
    server = run.server()
    handed_back(run, server, state, escrow, shares=shares, receipt=receipt_hash(last))
    assert refusal_code(lambda: enter(run, server)) == "serving.another_past"
    assert server.call("status")["named"] is False

    its_own = receipt_hash(msgspec.structs.replace(last, state=state))
    other = run.server()
    handed_back(run, other, state, escrow, shares=shares, receipt=its_own)
    assert other.call("status")["named"] is True
    asked, _ = question(run)
    assert ask(other, enter(run, other), asked) == ask(run.the_server, enter(run, run.the_server), asked)
