"""What outlives a trust domain: development evidence of TDX's form stands in with and without a sealing key.

Each server is a split server, started by the launcher; state, shares and machines are the host's to mix up.
"""

import secrets
import sys

import msgspec
import pytest

from attestation.development import create_platform, install_platform, issue_platform
from attestation.trust_domain import development_reference
from contracts.manifest import KeyShares, Release, Split
from contracts.receipts import receipt_hash
from enclave_host import process as host
from enclave_host.tdx.development import boot
from tests.attacks.forger import ACCOMPLICE, HONEST, Forger
from tests.programs.split_house import SplitRun, split_manifest

PROGRAM = "split_server"
KEYED, KEYLESS = "tdx with a sealing key", "tdx"


@pytest.fixture(scope="module")
def machines(house, tmp_path_factory):
    """Two that play TDX; one of them has a sealing secret, which no TDX machine has today."""
    for name in (KEYED, KEYLESS):
        folder = tmp_path_factory.mktemp("machine") / "platform"
        install_platform(folder, issue_platform(house.root, create_platform(folder, "tdx")))
        (folder / "sealing.secret").write_bytes(secrets.token_bytes(32) if name == KEYED else b"")
        house.platforms[name] = folder


def started(run: SplitRun, machine: str):
    server = run.consortium.bound(PROGRAM, machine)
    server.call("prepare", model=str(run.consortium.house.model))
    return server


def trained(run: SplitRun, server) -> dict | None:
    """Of one round on features that came without a key for shares: the sealed state that it left."""
    for site in (HONEST, ACCOMPLICE):
        run.join(server, site)
    return run.round(server, 1)["state"]


@pytest.fixture(scope="module")
def keyed(house, machines, tmp_path_factory, consortium_class):
    """A run whose manifest lets the sites hold shares, after a round on a machine that needs none."""
    folder = tmp_path_factory.mktemp("domain")
    policy = msgspec.structs.replace(house.policy(), references=(development_reference(PROGRAM),))
    shares, rule = Split(1, shares=KeyShares(2)), Release("serve-only", 2)
    manifest = split_manifest(house, policy=policy, split=shares, release=rule)
    consortium = consortium_class(house, folder / "run", manifest)
    (folder / "sites").mkdir()
    run = SplitRun(consortium, folder / "sites")
    run.first = started(run, KEYED)
    run.state = trained(run, run.first)["sha256"]
    yield run
    consortium.close()


@pytest.fixture
def unmeasured(monkeypatch):
    """The host starts the program in its own trust domain without the launcher."""

    def command(program, _runtime, mailbox):
        boot(mailbox)
        return [sys.executable, "-m", f"enclave.programs.{program}", "--mailbox", str(mailbox)]

    monkeypatch.setattr(host, "command", command)


def test_with_a_sealing_key_a_new_domain_goes_on_from_its_own_state_and_from_none_in_shares(keyed, code_of):
    forger, successor = Forger(keyed), started(keyed, KEYED)
    made_up = forger.state(forger.receipt(None, 1), threshold=2, sites=(HONEST, ACCOMPLICE))
    state, escrow, receipt = made_up
    for site in (HONEST, ACCOMPLICE):
        assert code_of(forger.share, successor, site, escrow, receipt_hash(receipt)) == "state.no_shares"
    assert code_of(forger.restore, successor, state) == "state.no_shares"
    keyed.consortium.move(keyed.state, keyed.first, successor)
    assert successor.call("restore", state=keyed.state)["round"] == 1


def test_a_program_that_no_launcher_measured_has_another_sealing_key(keyed, unmeasured, code_of):
    """Same machine, same secret, same code: RTMR3 says that nobody has measured it."""
    ordinary = started(keyed, KEYED)
    keyed.consortium.move(keyed.state, keyed.first, ordinary)
    assert code_of(ordinary.call, "restore", state=keyed.state) == "sealing.refused"


def test_without_a_sealing_key_no_such_state_opens_and_none_is_kept_before_the_sites_hold_shares(
    keyed, code_of
):
    elsewhere = started(keyed, KEYLESS)
    keyed.consortium.move(keyed.state, keyed.first, elsewhere)
    assert code_of(elsewhere.call, "restore", state=keyed.state) == "state.unavailable"
    assert trained(keyed, elsewhere) is None
