"""A whole small history: three hospitals approve a run, a real development enclave is appraised, two rounds
follow."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from attestation import development
from attestation.appraisal import appraise
from contracts.canonical import canonical
from contracts.evidence import Claims, Evidence, Expected, report_data
from contracts.log import growth, merkle
from contracts.log.checkpoint import Checkpoint
from contracts.log.following import sign_checkpoint
from contracts.log.note import NoteKey
from contracts.manifest import (
    Aggregation,
    DatasetRef,
    Lora,
    Manifest,
    ModelSpec,
    Release,
    Site,
    Training,
)
from contracts.policy import Policy, Program, SgxReference
from contracts.receipts import (
    NO_RECEIPT,
    Averaging,
    Receipt,
    ReceiptInput,
    Scoring,
    SignedReceipt,
    receipt_hash,
)
from contracts.roster import Roster, RosterEntry, countersign, roster_hash
from contracts.server_statements import sign_receipt
from contracts.signing import SigningKey
from tests.support.approvals import approve
from tests.support.keys import approval_key
from transparency_log.bundle import write_bundle
from transparency_log.entry import (
    APPRAISAL,
    APPROVAL,
    RECEIPT,
    ROSTER,
    AppraisalBody,
    ApprovalBody,
    RosterBody,
    encode_entry,
    make_entry,
)

AT = 1_800_000_000
ORIGIN = "fedslice.example/log"
MRENCLAVE = bytes(range(32))
SITES = {f"site-{name}": SigningKey.generate() for name in "abc"}


@dataclass
class History:
    """A log in memory, with its key and everything that its entries name."""

    key: SigningKey = field(default_factory=SigningKey.generate)
    store: growth.MemoryStore = field(default_factory=growth.MemoryStore)
    leaves: list[bytes] = field(default_factory=list)
    things: dict[str, bytes] = field(default_factory=dict)
    enclave: SigningKey = field(default_factory=SigningKey.generate)
    manifest: Manifest | None = None
    last: str = NO_RECEIPT  # hash of the last receipt

    @property
    def note_key(self) -> NoteKey:
        return NoteKey(ORIGIN, self.key.public)

    def keep(self, data: bytes) -> str:
        name = sha256(data).hexdigest()
        self.things[name] = data
        return name

    def append(self, kind: str, body: object) -> None:
        leaf = encode_entry(make_entry(kind, AT, body))
        growth.append(self.store, len(self.leaves), merkle.leaf_hash(leaf))
        self.leaves.append(leaf)

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = len(self.leaves) if size is None else size
        return Checkpoint(ORIGIN, size, growth.root(self.store, size))

    def write(self, path: Path, *, indices: list[int] | None = None, earlier: tuple[int, ...] = ()) -> Path:
        chosen = range(len(self.leaves)) if indices is None else indices
        write_bundle(
            path,
            checkpoint=sign_checkpoint(self.checkpoint(), self.key),
            log_key=self.note_key,
            store=self.store,
            entries=((index, self.leaves[index]) for index in chosen),
            attachment=self.things.get,
            created=AT,
            earlier=[sign_checkpoint(self.checkpoint(size), self.key) for size in earlier],
        )
        return path


def make_manifest(policy: Policy) -> Manifest:
    return Manifest(
        version=1,
        run="run-1",
        study="Triage notes",
        purpose="A test",
        method="method-1",
        placement="all_in_tee",
        runtime="development",
        model=ModelSpec(
            "embedded:all-MiniLM-L6-v2", "sequence-classification", {"a": "0" * 64}, ("x", "y"), 128
        ),
        adapter=Lora(8, 16, ("query",)),
        training=Training(2, 1, 8, 0.001, 7),
        sites=tuple(
            Site(name, name.title(), key.public, approval_key(key).public, DatasetRef("d-1", "1" * 64, 100))
            for name, key in SITES.items()
        ),
        aggregation=Aggregation("fedavg", 2, 60),
        policy=policy,
        release=Release("nothing", 1),
        minimum_time=AT - 1000,
    )


def make_receipt(
    manifest: Manifest, roster: Roster, previous: str, signer: SigningKey, **changes: object
) -> SignedReceipt:
    receipt = Receipt(
        version=1,
        manifest=manifest.hash,
        run=manifest.run,
        round=roster.round,
        roster=roster_hash(roster),
        inputs=tuple(ReceiptInput(entry.site, entry.sha256, 1000, 50) for entry in roster.inputs),
        output="e" * 64,
        state="f" * 64,
        metrics={"pooled": {"accuracy": 0.5}},
        previous=previous,
        program="aggregator",
        measurement=MRENCLAVE.hex(),
        development=True,
        issued=AT,
        averaging=None
        if roster.round > manifest.training.rounds
        else Averaging("fedavg", len(roster.inputs), None, None, 0, None),
        scoring=Scoring(tuple(entry.site for entry in roster.inputs), None),
    )
    return sign_receipt(msgspec.structs.replace(receipt, **changes), signer)


def make_roster(manifest: Manifest, number: int, previous: str) -> RosterBody:
    inputs = tuple(RosterEntry(site, sha256(f"{site}{number}".encode()).hexdigest()) for site in SITES)
    roster = Roster(manifest.hash, number, inputs, previous, True)
    return RosterBody(roster, {site: countersign(roster, key) for site, key in SITES.items()})


@dataclass(frozen=True)
class Enclave:
    """A development platform and what an aggregator on it would show."""

    root: Path
    platform: development.DevelopmentPlatform

    def policy(self, mrenclave: bytes = MRENCLAVE) -> Policy:
        reference = SgxReference("aggregator", mrenclave=mrenclave.hex())
        return Policy("development", development.root_sha256(self.root), (reference,))

    def appraised(
        self,
        history: History,
        manifest: Manifest,
        signer: SigningKey,
        *,
        policy: Policy | None = None,
        mrenclave: bytes = MRENCLAVE,
        subject: str = "aggregator",
        program: Program = "aggregator",
    ) -> AppraisalBody:
        """Judged under the manifest's policy, or under another as a coordinator might."""
        policy = policy or manifest.policy
        claims = Claims("9" * 64, "ab" * 1216, signer.public, manifest.hash, program)
        quote = self.platform.sgx_quote(
            report_data(claims), mrenclave=mrenclave, mrsigner=bytes(32), product_id=1, svn=1
        )
        collateral = development.collateral(self.root, AT)
        expected = Expected(claims.nonce, claims.manifest, claims.program)
        appraisal = appraise(Evidence(quote, collateral, claims), policy, at=AT, expected=expected)
        return AppraisalBody(
            relying_party="site-a",
            subject=subject,
            claims=claims,
            quote=history.keep(quote),
            collateral=history.keep(canonical(collateral)),
            policy=history.keep(canonical(policy)),
            manifest=manifest.hash,
            appraisal=msgspec.to_builtins(appraisal),
        )


@pytest.fixture(scope="session")
def aggregator(tmp_path_factory: pytest.TempPathFactory) -> Enclave:
    folder = tmp_path_factory.mktemp("development")
    root, host = folder / "root", folder / "host"
    development.create_root(root)
    development.install_platform(host, development.issue_platform(root, development.create_platform(host)))
    return Enclave(root, development.load_platform(host))


@pytest.fixture
def tell(aggregator: Enclave) -> Callable[[], History]:
    """Tells the history again: approvals 0-2, appraisals 3 (accepted) and 4 (refused), then two rounds of a
    roster and a receipt each (5-8), and one entry of another kind (9)."""

    def make() -> History:
        history, policy = History(), aggregator.policy()
        signer, manifest = history.enclave, make_manifest(policy)
        history.manifest = manifest
        history.keep(canonical(manifest))
        for site, key in SITES.items():
            given = approve(manifest.hash, site, key, SITES)
            history.append(APPROVAL, ApprovalBody(manifest.hash, site, given.confirmed, given.signature))
        history.append(APPRAISAL, aggregator.appraised(history, manifest, signer))
        history.append(APPRAISAL, aggregator.appraised(history, manifest, signer, mrenclave=b"x" * 32))
        for number in (1, 2):
            body = make_roster(manifest, number, history.last)
            history.append(ROSTER, body)
            receipt = make_receipt(manifest, body.roster, history.last, signer)
            history.append(RECEIPT, receipt)
            history.last = receipt_hash(receipt.receipt)
        history.append("reference.suspended", {"measurement": "0" * 64, "by": "operator"})
        return history

    return make


@pytest.fixture
def history(tell: Callable[[], History]) -> History:
    return tell()


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The bundle with its members changed."""
    with zipfile.ZipFile(path) as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return path
