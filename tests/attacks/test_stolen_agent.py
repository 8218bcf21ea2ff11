"""Somebody copies the agent's state folder: its online key, its datasets, its book of members, its approval
key as it lies there.

Before, one key did everything: the copy approved manifests and ordered releases from anywhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attestation.measurement import measure
from contracts.canonical import canonical
from contracts.manifest import APPROVAL_DOMAIN, Manifest, approval_payload, parse
from contracts.manifest import Release as Rule
from contracts.policy import SgxReference
from contracts.receipts import NO_RECEIPT, Receipt, ReceiptInput, sign_receipt
from contracts.refusal import Refusal
from contracts.releases import consent
from contracts.signing import SigningKey
from enclave.programs.identity import require_approvals
from federation.attestation import log, references
from federation.attestation.models import Root
from federation.datasets.models import Dataset
from federation.people.models import Role
from federation.releases import services as release_services
from federation.releases.models import Release
from federation.sites import services as site_services
from federation.sites.models import Site
from federation.studies import services
from federation.studies.models import Approval, Round, Run, Study
from federation.studies.plan import Plan
from site_agent import cli, enrolment
from site_agent.approval_key import ApprovalKey, create_sealed
from site_agent.enrolment import connect
from site_agent.state import State
from site_agent.transport import Coordinator
from tests.federation.cast import MODEL, make_person
from tests.support.installation import DEVELOPMENT, NAMED
from tests.support.instances import HERE
from tests.support.proofs import made_proof

LIAR = """
import sys
from site_agent import cli, enrolment
from tests.support.instances import HERE
enrolment.instance_of = lambda *_: HERE
sys.exit(cli.main(sys.argv[1:]))
"""
PASSPHRASE = "correct horse battery staple"


@dataclass
class Terminal:
    """A state folder, and the product's own command on it; nobody sits there to be asked."""

    folder: Path

    def __call__(self, *arguments: str) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = cli.main(["--state", str(self.folder), *arguments])
        return status, said.getvalue()

    def elsewhere(self, *arguments: str) -> tuple[int, str]:
        """The same as a process of its own."""
        command = [sys.executable, "-c", LIAR, "--state", str(self.folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr


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
    # The thief says that he is on the hospital's machine: nothing proves the contrary.
    monkeypatch.setattr(enrolment, "instance_of", lambda *_: HERE)
    settings.STATE_DIR = tmp_path / "coordinator"
    settings.STATE_DIR.mkdir()
    settings.DEVELOPMENT_ROOT_DIR = settings.STATE_DIR / "development-root"
    settings.PUBLIC_URL = live_server.url
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for program in ("aggregator", "client_slice"):
        value = SgxReference(program=program, mrenclave=measure(program))  # type: ignore[arg-type]
        references.add(None, value, root=Root.DEVELOPMENT, reason="for this test")
    services.register_base_model(MODEL, made_proof())
    passphrase = private(tmp_path / "passphrase", f"{PASSPHRASE}\n")
    rows = [{"text": f"note {n}", "label": "red" if n % 2 else "green"} for n in range(60)]
    notes = tmp_path / "notes.jsonl"
    notes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    terminals = {}
    for name, how in (("St. Anna", ("--passphrase-file", str(passphrase))), ("St. Barbara", (DEVELOPMENT,))):
        site = Site.objects.create(name=name)
        admin = make_person(f"admin-{len(terminals)}@hospital.example", Role.SITE_ADMIN, site)
        token = site_services.enrolment_command(admin, site).rsplit(" ", 1)[1]
        terminals[name] = at = Terminal(tmp_path / name)
        words = ("--coordinator", live_server.url, "--log-key", log.key_fingerprint(), "--token", token)
        status, said = at("enrol", *words, *how)
        assert status == 0, said
        assert at("dataset", "add", str(notes), *NAMED, "--yes")[0] == 0
    lena = make_person("lena@university.example", Role.LEAD)
    study = services.create_study(
        lena, name="Triage", purpose="", plan=Plan(model=MODEL), datasets=list(Dataset.objects.all())
    )
    services.freeze(lena, study)
    study.refresh_from_db()
    shutil.copytree(tmp_path / "St. Anna", tmp_path / "stolen")
    return Theft(
        terminals["St. Anna"], terminals["St. Barbara"], Terminal(tmp_path / "stolen"), passphrase, study
    )


pytestmark = pytest.mark.django_db(transaction=True)


def finished(theft: Theft) -> Run:
    """The run of both hospitals at its end; its rule lets the parameters out on one signature."""
    theft.study.refresh_from_db()
    run = services.launch(theft.study.lead, theft.study)
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
    forged = consent(manifest, release.receipt, site, theft.online_key)
    body = {"run": run.pk, "receipt": release.receipt, "consent": msgspec.to_builtins(forged)}
    with contextlib.closing(theft.line()) as coordinator, pytest.raises(Refusal) as caught:
        coordinator.call("POST", "releases", body)
    assert caught.value.code == "approval.online_key"
    assert not release.orders.exists()


def test_neither_key_is_good_for_what_the_other_one_is_for(theft: Theft) -> None:
    own = next(site for site in theft.manifest.sites if site.public_key == theft.online_key.public)
    forged = theft.online_key.sign(APPROVAL_DOMAIN, approval_payload(theft.hash, own.id))
    with contextlib.closing(theft.line()) as coordinator, pytest.raises(Refusal) as caught:
        coordinator.call("POST", "approvals", {"manifest_hash": theft.hash, "signature": forged})
    assert caught.value.code == "approval.online_key"
    alone = msgspec.structs.replace(theft.manifest, sites=(own,))
    by_agent = theft.online_key.sign(APPROVAL_DOMAIN, approval_payload(alone.hash, own.id))
    with pytest.raises(Refusal) as caught:
        require_approvals(alone, {own.id: by_agent})
    assert caught.value.code == "approval.online_key"
    assert theft.signed() == set()

    state = State.open(theft.anna.folder)
    key = ApprovalKey(state.approval_file, theft.passphrase).of(theft.manifest, state.config.site)
    line = Coordinator(state.config.coordinator, (state.config.site, key, HERE))
    with pytest.raises(Refusal) as caught:
        line.call("GET", "approvals")
    line.close()
    assert caught.value.code == "auth.bad_token"

    before = set(Site.objects.values_list("approval_key", flat=True))
    status, said = theft.thief("approval-key", "replace", DEVELOPMENT, "--token", "x" * 43)
    assert status == 1 and "[enrolment.unknown_token]" in said, said
    assert set(Site.objects.values_list("approval_key", flat=True)) == before
