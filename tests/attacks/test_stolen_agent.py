"""Somebody copies the agent's state folder: its online key, its datasets, its book of members, its approval
key as it lies there.

Before, one key did everything: the copy approved manifests and ordered releases from anywhere.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.agents_api.releases import APPROVE_RELEASE, ReleaseApprovalBody
from contracts.agents_api.studies import APPROVALS, APPROVE, SignatureBody
from contracts.approvals import Approval as Given
from contracts.approvals import approval_payload, verify_approvals
from contracts.canonical import canonical
from contracts.manifest import APPROVAL_DOMAIN, Manifest, parse
from contracts.manifest import Release as Rule
from contracts.program_calls import Nothing
from contracts.receipts import NO_RECEIPT, Receipt, ReceiptInput
from contracts.refusal import Refusal
from contracts.releases import approve_release
from contracts.server_statements import sign_receipt
from contracts.signing import SigningKey
from enclave_jobs.releases import services as release_services
from enclave_jobs.releases.models import Release
from enclave_jobs.runs.models import Round, Run
from enclave_jobs.runs.services import launch
from federation.sites.models import Site
from federation.studies.models import Approval, Study
from site_agent import enrolment
from site_agent.approval_key import ApprovalKey, create_sealed
from site_agent.enrolment import connect
from site_agent.state import State
from site_agent.transport import Coordinator
from tests.support import live_coordinator
from tests.support.installation import DEVELOPMENT, NAMED
from tests.support.instances import AS_HERE, HERE
from tests.support.terminal import Terminal

PASSPHRASE = "correct horse battery staple"


@dataclass
class Theft:
    """A coordinator where a study waits for two hospitals. St. Anna's key is sealed; a copy of her agent's
    state folder is in the thief's hands, her passphrase is not."""

    anna: Terminal
    barbara: Terminal
    thief: Terminal
    passphrase: Path
    study: Study

    @property
    def hash(self) -> str:
        return self.study.manifest_hash or ""

    @property
    def manifest(self) -> Manifest:
        return parse((self.study.manifest or "").encode())

    @property
    def online_key(self) -> SigningKey:
        return State.open(self.thief.folder).key

    def line(self) -> Coordinator:
        return connect(State.open(self.thief.folder))

    def signed(self) -> set[str]:
        return set(Approval.objects.exclude(signature=None).values_list("site__name", flat=True))


def private(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


@pytest.fixture
def theft(live_server: Any, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Theft:
    # The thief says that they are on the hospital's machine: nothing proves the contrary.
    monkeypatch.setattr(enrolment, "instance_of", lambda *_: HERE)
    address = live_coordinator.set_up(live_server, settings, tmp_path / "coordinator")
    passphrase = private(tmp_path / "passphrase", f"{PASSPHRASE}\n")
    notes = live_coordinator.notes(tmp_path / "notes.jsonl")
    terminals = {}
    for name, how in (("St. Anna", ("--passphrase-file", str(passphrase))), ("St. Barbara", (DEVELOPMENT,))):
        terminals[name] = at = Terminal(tmp_path / name)
        token = live_coordinator.token_for(name)[1]
        status, said = at(*live_coordinator.enrolment(address, token, *how))
        assert status == 0, said
        assert at("dataset", "add", str(notes), *NAMED, "--yes")[0] == 0
    study = live_coordinator.freeze()
    shutil.copytree(tmp_path / "St. Anna", tmp_path / "stolen")
    return Theft(
        terminals["St. Anna"],
        terminals["St. Barbara"],
        Terminal(tmp_path / "stolen", AS_HERE),
        passphrase,
        study,
    )


pytestmark = pytest.mark.django_db(transaction=True)


def finished(theft: Theft) -> Run:
    """The run of both hospitals at its end; its rule lets the parameters out on one signature."""
    theft.study.refresh_from_db()
    run = launch(theft.study.lead, theft.study)
    manifest = msgspec.structs.replace(theft.manifest, release=Rule("export", 1))
    fields = {"manifest": canonical(manifest).decode(), "manifest_hash": manifest.hash, "state": "finished"}
    Run.objects.filter(pk=run.pk).update(**fields)
    run.refresh_from_db()
    made = Receipt(
        version=1, manifest=manifest.hash, run=run.pk, round=1, roster="0" * 64,
        inputs=(ReceiptInput(manifest.sites[0].id, "1" * 64, 10, 5),), output=None, state="2" * 64,
        metrics={"pooled": {}}, previous=NO_RECEIPT, program="aggregator", measurement="3" * 64,
        development=True, issued=1,
    )  # fmt: skip
    signed = sign_receipt(made, SigningKey.generate())
    row = {"state": "published", "state_blob": "2" * 64, "receipt": msgspec.to_builtins(signed)}
    Round.objects.create(run=run, number=1, **row)
    release_services.ask(theft.study.lead, run)
    return run


def test_a_copy_of_the_state_folder_approves_nothing_and_orders_no_release(
    theft: Theft, tmp_path: Path
) -> None:
    approve = ("approve", "--yes", "--hash", theft.hash, "--confirm-members", "--accept", "unbounded")
    guess = private(tmp_path / "guess", "password1234\n")
    create_sealed(tmp_path / "own.key", PASSPHRASE)
    own = ("--approval-key", str(tmp_path / "own.key"), "--passphrase-file", str(theft.passphrase))
    for how, code in (
        ((), "approval_key.needs_passphrase"),
        (("--passphrase-file", str(guess)), "approval_key.wrong_passphrase"),
        (("--approval-key", str(theft.thief.folder / "site.key")), "approval_key.damaged"),
        (own, "approval_key.other"),
    ):
        status, said = theft.thief(*approve, *how)
        assert status == 1 and f"[{code}]" in said, said
    status, said = theft.thief.elsewhere(*approve)
    assert status == 1 and "[approval_key.needs_passphrase]" in said, said
    assert theft.signed() == set()
    status, said = theft.anna(*approve, "--passphrase-file", str(theft.passphrase))
    assert status == 0, said
    assert theft.barbara(*approve)[0] == 0
    assert theft.signed() == {"St. Anna", "St. Barbara"}
    run = finished(theft)
    manifest = parse(run.manifest.encode())
    release = Release.objects.get(run=run)
    site = State.open(theft.thief.folder).config.site
    everybody = [member.id for member in manifest.sites]
    forged = approve_release(manifest, release.receipt, site, theft.online_key, everybody)
    body = ReleaseApprovalBody(run.pk, release.rule, release.receipt, forged)
    with contextlib.closing(theft.line()) as coordinator, pytest.raises(Refusal) as caught:
        coordinator.ask(APPROVE_RELEASE, body)
    assert caught.value.code == "approval.online_key"
    assert not release.signatures.exists()


def test_neither_key_is_good_for_what_the_other_one_is_for(theft: Theft) -> None:
    own = next(site for site in theft.manifest.sites if site.public_key == theft.online_key.public)
    forged = theft.online_key.sign(APPROVAL_DOMAIN, approval_payload(theft.hash, own.id, [own.id]))
    posted = SignatureBody(theft.hash, (own.id,), forged)
    with contextlib.closing(theft.line()) as coordinator, pytest.raises(Refusal) as caught:
        coordinator.ask(APPROVE, posted)
    assert caught.value.code == "approval.online_key"
    alone = msgspec.structs.replace(theft.manifest, sites=(own,))
    by_agent = theft.online_key.sign(APPROVAL_DOMAIN, approval_payload(alone.hash, own.id, [own.id]))
    with pytest.raises(Refusal) as caught:
        verify_approvals(alone, {own.id: Given((own.id,), by_agent)})
    assert caught.value.code == "approval.online_key"
    assert theft.signed() == set()

    state = State.open(theft.anna.folder)
    key = ApprovalKey(state.approval_file, theft.passphrase).of(theft.manifest, state.config.site)
    line = Coordinator(state.config.coordinator, (state.config.site, key, HERE))
    with pytest.raises(Refusal) as caught:
        line.ask(APPROVALS, Nothing())
    line.close()
    assert caught.value.code == "auth.bad_token"

    before = set(Site.objects.values_list("approval_key", flat=True))
    status, said = theft.thief("approval-key", "replace", DEVELOPMENT, "--token", "x" * 43)
    assert status == 1 and "[enrolment.unknown_token]" in said, said
    assert set(Site.objects.values_list("approval_key", flat=True)) == before
