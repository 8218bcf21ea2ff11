"""What a host does in a trust domain to pass for a program that was measured, over real processes.

The quotes are a development platform's, which plays TDX. The policy names the register that the attack leads
to, as a coordinator's would that is in league with the host: the launcher's log must end it all the same.
"""

import secrets
import subprocess
import sys
import time

import msgspec
import pytest

from attestation.development import collateral, create_platform, install_platform, issue_platform
from attestation.development_quoting.trust_domain import EVENT_LOG, FOLDER, REGISTER, rtmr3
from attestation.trust_domain import development_reference, launch_of
from contracts.canonical import canonical
from contracts.evidence import Evidence
from contracts.refusal import Refusal
from enclave_host import process as host
from enclave_host.tdx.development import boot, launch
from site_agent.evidence import Verifier
from tests.programs.conftest import Consortium, house
from tests.programs.split_house import split_manifest

__all__ = ["house"]

PROGRAM = "split_server"


@pytest.fixture(scope="module")
def platform(house, tmp_path_factory):
    """The server's platform, as a TDX machine is: no sealing key, and a launch that is measured."""
    folder = tmp_path_factory.mktemp("tdx") / "platform"
    install_platform(folder, issue_platform(house.root, create_platform(folder, "tdx")))
    house.platforms["tdx"] = folder
    return folder


class Domain:
    """One trust domain with a split server in it, and a hospital's agent that asks for its evidence."""

    def __init__(self, house, folder, policy_register=None):
        reference = development_reference(PROGRAM)
        if policy_register is not None:
            reference = msgspec.structs.replace(
                reference, rtmrs=(*reference.rtmrs[:3], policy_register.hex())
            )
        policy = msgspec.structs.replace(house.policy(), references=(reference,))
        self.reference = reference
        self.run = Consortium(house, folder / "run", split_manifest(house, policy=policy))
        self.process = self.run.bound(PROGRAM, "tdx")
        self.td = self.process.mailbox.folder / FOLDER
        self.folder = folder

    def judged(self, **changes):
        """The agent's verdict on fresh evidence: None, or the code."""
        nonce = secrets.token_hex(32)
        shown = self.process.call("evidence", nonce=nonce)
        shown |= {"collateral": collateral(self.run.house.root, int(time.time()), "tdx")} | changes
        try:
            Verifier(self.run.manifest, PROGRAM, self.folder).evidence(
                msgspec.convert(shown, Evidence), nonce
            )
        except Refusal as refusal:
            return refusal.code
        return None


@pytest.fixture
def domain(house, platform, tmp_path):
    made = []

    def make(**options):
        made.append(Domain(house, tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.run.close()


@pytest.fixture
def unmeasured(monkeypatch):
    """The host starts the program as an ordinary process of its own trust domain, without the launcher."""

    def command(program, _runtime, mailbox):
        boot(mailbox)
        return [sys.executable, "-m", f"enclave.programs.{program}", "--mailbox", str(mailbox)]

    monkeypatch.setattr(host, "command", command)


def line_of(event):
    return canonical(event).decode() + "\n"


def test_a_program_that_the_launcher_started_is_accepted_and_named_by_all_that_was_measured(domain):
    one = domain()
    assert one.judged() is None
    reported = one.process.call("evidence", nonce="00" * 32)
    assert reported["event_log"] == line_of(launch_of(PROGRAM))
    assert rtmr3(one.td).hex() == one.reference.rtmrs[3]


def test_an_ordinary_process_of_the_trust_domain_is_refused(domain, unmeasured):
    one = domain(policy_register=bytes(48))
    assert one.judged() == "attest.launches_missing"
    assert one.judged(event_log="") == "attest.launches_malformed"
    assert one.judged(event_log=line_of(launch_of(PROGRAM))) == "attest.event_log"


def test_an_ordinary_process_beside_a_program_that_was_measured_is_refused(domain, unmeasured):
    """The launcher has started an aggregator there; the process beside it says that it is a split server."""
    event = launch_of("aggregator")
    one = domain(policy_register=bytes.fromhex(development_reference("aggregator").rtmrs[3]))
    (one.td / REGISTER).write_bytes(event.digest)
    (one.td / EVENT_LOG).write_text(line_of(event))
    assert one.judged() == "attest.launched_program"


def test_a_second_program_in_the_same_trust_domain_ends_the_first_ones_evidence(domain):
    one = domain()
    assert one.judged() is None
    command = launch("aggregator", sys.executable, one.process.mailbox.folder)
    subprocess.run(command, capture_output=True, check=False)  # it finds no host.json, and ends
    assert one.judged() == "attest.launches"
    assert one.judged(event_log=line_of(launch_of(PROGRAM))) == "attest.event_log"


def test_the_program_with_another_command_line_is_none_that_the_hospital_approved(domain, unmeasured):
    one = domain()
    event = msgspec.structs.replace(launch_of(PROGRAM), argv=("python3", "-i", "spy.py"))
    (one.td / REGISTER).write_bytes(event.digest)
    (one.td / EVENT_LOG).write_text(line_of(event))
    assert one.judged() == "attest.measurement"
