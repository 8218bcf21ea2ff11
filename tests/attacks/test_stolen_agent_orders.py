"""Somebody with a copy of the agent's state folder lets a finished run's parameters out, of either method.

The run is over, its receipts are attested, and its rule needs one signature: only the approval key's
passphrase is missing. What the copy holds is tried at the agent's command, and where signatures are counted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.approvals import Approval, approval_payload
from contracts.canonical import canonical
from contracts.course import server_of
from contracts.manifest import APPROVAL_DOMAIN, Manifest, Release, Spf, Split
from contracts.receipts import NO_RECEIPT, SignedReceipt, receipt_hash
from contracts.refusal import Refusal
from contracts.releases import (
    ReleaseApproval,
    approve_release,
    require_approved,
    verify_release_approval,
)
from contracts.roster import Roster, RosterEntry, countersign, verify_roster
from contracts.signing import SigningKey
from site_agent.approval_key import ApprovalKey, create_development, create_sealed
from site_agent.approvals import Approved
from site_agent.files import create_private, write_private
from site_agent.members import confirm
from site_agent.state import Config, State
from tests.site_agent.archive import Archive, Platform, approved, plain
from tests.site_agent.conftest import SITE, Reply, Request, Server
from tests.site_agent.factories import OTHER, PINNED, add_dataset, make_manifest, make_receipt
from tests.support.approvals import members
from tests.support.keys import approval_key
from tests.support.terminal import Terminal

PASSPHRASE = "correct horse battery staple"
METHODS: dict[str, dict[str, Any]] = {
    "method-1": {},
    "method-2": {"method": "method-2", "adapter": Spf(25.0, 25.0), "split": Split(1)},
}


@dataclass
class Theft:
    """A hospital whose key is sealed, the thief's copy of its agent, and what its coordinator was sent."""

    anna: Terminal
    thief: Terminal
    passphrase: Path
    manifest: Manifest
    last: SignedReceipt
    server: Server

    @property
    def fingerprint(self) -> str:
        return receipt_hash(self.last.receipt)

    @property
    def online_key(self) -> SigningKey:
        return State.open(self.thief.folder).key

    def ordered(self) -> list[Any]:
        return [request.json for request in self.server.requests if request.body]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture(scope="module", params=METHODS)
def finished(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Theft:
    """Before the theft: whoever opens the key takes a second or more, so that few try it here."""
    tmp_path = tmp_path_factory.mktemp("finished")
    platform = Platform(tmp_path / "platform")
    state = State.open(tmp_path / "anna")
    assert state.key  # drawn before the enrolment; whoever is enrolled without one has a damaged folder
    own = create_sealed(state.approval_file, PASSPHRASE)
    state.save(
        Config(coordinator=server.url, site=SITE, name="St. Anna", approval_key=own.public, log_key=PINNED)
    )
    passphrase = tmp_path / "passphrase"
    write_private(passphrase, f"{PASSPHRASE}\n".encode())
    made = make_manifest(
        state, add_dataset(state, tmp_path), release=Release("export", 1), **METHODS[request.param]
    )
    manifest = approved(made, policy=platform.policy)
    key = ApprovalKey(state.approval_file, passphrase).of(manifest, SITE)
    known = members(manifest)
    signature = key.sign(APPROVAL_DOMAIN, approval_payload(manifest.hash, SITE, known))
    kept = Approved(canonical(manifest).decode(), manifest.hash, known, signature, 0)
    create_private(state.approved / f"{manifest.hash}.json", msgspec.json.encode(kept))
    confirm(state, manifest.sites)
    enclave, receipts, previous = SigningKey.generate(), [], NO_RECEIPT
    fields = {"program": server_of(manifest), "output": None, "state": "c" * 64}
    for number in (1, 2, 3, 4):
        receipts.append(make_receipt(manifest, number, previous, enclave, **fields))
        previous = receipt_hash(receipts[-1].receipt)
    archive = Archive(server, *receipts)
    archive.signers[enclave.public] = platform.evidence(manifest, server_of(manifest), enclave)
    asked = {
        "run": manifest.run, "study": "Triage", "manifest_hash": manifest.hash, "state": "waiting",
        "rule": "export",
        "receipt": plain(receipts[-1]), "found": 0, "needed": 1, "signed": False, "kept": True,
        "statement": None, "evidence": None,
    }  # fmt: skip

    def answer(request: Request) -> Reply:
        if request.method == "GET" and request.path in ("approvals", "releases"):
            return Reply(body=[asked] if request.path == "releases" else [])
        return Reply() if request.method == "POST" else archive(request)

    server.answer = answer
    anna = Terminal(state.folder)
    return Theft(anna, anna, passphrase, manifest, receipts[-1], server)


@pytest.fixture
def theft(finished: Theft, tmp_path: Path) -> Theft:
    shutil.copytree(finished.anna.folder, tmp_path / "stolen")
    finished.server.requests.clear()
    return replace(finished, thief=Terminal(tmp_path / "stolen"))


def test_no_release_is_ordered_with_what_lies_in_the_folder(theft: Theft, tmp_path: Path) -> None:
    order = ("approve", "--yes", "--hash", theft.fingerprint, "--confirm-members")
    guess, own = tmp_path / "guess", tmp_path / "own.key"
    write_private(guess, b"password1234\n")
    create_development(own)
    public = State.open(theft.thief.folder).approval_file.with_name("approval.key.pub")
    for how, code in (
        ((), "approval_key.needs_passphrase"),
        (("--passphrase-file", str(guess)), "approval_key.wrong_passphrase"),
        (("--approval-key", str(public)), "approval_key.public_only"),
        (("--approval-key", str(own)), "approval_key.other"),
    ):
        status, said = theft.thief(*order, *how)
        assert status == 1 and f"[{code}]" in said, said
    request = tmp_path / "request"
    assert theft.thief("approve", "--export", str(request), "--hash", theft.fingerprint)[0] == 0
    status, said = theft.thief("approve", "--sign", str(request), "--yes", "--hash", theft.fingerprint)
    assert status == 1 and "[approval_key.needs_passphrase]" in said, "nor as if it were another machine"
    assert theft.ordered() == []

    status, said = theft.anna(*order, "--passphrase-file", str(theft.passphrase))
    assert status == 0, said
    (sent,) = theft.ordered()
    given = msgspec.convert(sent["approval"], ReleaseApproval)
    verify_release_approval(theft.manifest, theft.fingerprint, SITE, given)


def test_an_agent_that_is_told_of_another_approval_key_remembers_none_of_its_runs(
    theft: Theft, tmp_path: Path
) -> None:
    """The thief writes their own key into the copy's settings: it is not by that one that this was
    approved."""
    state = State.open(theft.thief.folder)
    own = tmp_path / "own.key"
    public = create_development(own).public
    state.save(msgspec.structs.replace(state.config, approval_key=public, former_keys=()))
    status, said = theft.thief("approve", "--yes", "--hash", theft.fingerprint, "--approval-key", str(own))
    assert status == 1 and "cannot be signed here" in said, said
    assert theft.ordered() == []


def test_each_key_signs_for_its_own_purpose_wherever_it_is_counted(theft: Theft) -> None:
    """What coordinator, enclave and auditor count a release and a roster by."""
    manifest, last = theft.manifest, theft.fingerprint
    known = members(manifest)
    approvals = {site: Approval(known, "") for site in known}
    forged = approve_release(manifest, last, SITE, theft.online_key, known)
    others = approve_release(manifest, last, "site-2", approval_key(OTHER), known)
    with pytest.raises(Refusal) as caught:
        require_approved(manifest, last, {SITE: forged, "site-2": others}, approvals)
    assert caught.value.code == "approval.online_key"

    entries = (RosterEntry(SITE, "a" * 64), RosterEntry("site-2", "b" * 64))
    roster = Roster(manifest.hash, 1, entries, NO_RECEIPT, True)
    by_agents = {SITE: countersign(roster, theft.online_key), "site-2": countersign(roster, OTHER)}
    verify_roster(roster, by_agents, manifest, approvals)
    with pytest.raises(Refusal) as caught:
        by_person = by_agents | {"site-2": countersign(roster, approval_key(OTHER))}
        verify_roster(roster, by_person, manifest, approvals)
    assert caught.value.code == "roster.bad_countersignature"


def test_members_that_the_thief_confirms_count_at_his_desk_alone(theft: Theft) -> None:
    """`confirm` writes into the folder that the command was given, and tells the coordinator nothing."""
    before = (theft.anna.folder / "members.json").read_bytes()
    said = theft.anna("members")[1]
    fingerprint = next(word for word in said.split() if word in before.decode())
    assert theft.thief("members", "--forget", fingerprint)[0] == 0
    theft.thief("approve", "--yes", "--hash", theft.fingerprint, "--confirm-members")
    assert (theft.anna.folder / "members.json").read_bytes() == before
    assert theft.anna("members")[1] == said
    assert theft.ordered() == []
