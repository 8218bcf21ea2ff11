"""A coordinator brings a site receipts that no enclave of the run has made, or makes one run into two.

What a site believes decides what it countersigns, which model it asks, and whose release it orders.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.agents_api.endpoint import NOT_GIVEN
from contracts.agents_api.releases import ReleaseItem
from contracts.canonical import canonical
from contracts.manifest import Manifest, Release, Spf, Split
from contracts.receipts import NO_RECEIPT, Best, SignedReceipt, receipt_hash
from contracts.refusal import Refusal
from contracts.signing import SigningKey
from site_agent import releases
from site_agent.approvals import Approved
from site_agent.files import create_private
from site_agent.receipts import ReceiptBook
from site_agent.state import State
from tests.site_agent.archive import Archive, Platform, approved, plain
from tests.site_agent.conftest import SITE, Line, Server, line, quick, server, state  # noqa: F401
from tests.site_agent.factories import add_dataset, make_manifest, make_receipt
from tests.support.approvals import approve, members


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return Platform(tmp_path_factory.mktemp("platform"))


class Scene:
    """A site that has approved a run of Method 2 with three training rounds, and its coordinator."""

    def __init__(self, state: State, line: Line, server: Server, platform: Platform, folder: Path) -> None:  # noqa: F811
        made = make_manifest(
            state,
            add_dataset(state, folder),
            method="method-2",
            adapter=Spf(25.0, 25.0),
            split=Split(1),
            release=Release("export", 1),
        )
        self.manifest: Manifest = approved(made, policy=platform.policy)
        self.platform, self.state, self.line = platform, state, line
        self.archive = Archive(server)
        self.enclave = SigningKey.generate()
        self.show(self.enclave)
        digest = self.manifest.hash
        given = approve(digest, SITE, state.key, members(self.manifest))
        kept = Approved(canonical(self.manifest).decode(), digest, given.confirmed, given.signature, 0)
        create_private(state.approved / f"{self.manifest.hash}.json", msgspec.json.encode(kept))

    @property
    def book(self) -> ReceiptBook:
        return ReceiptBook(self.state, self.manifest, self.line.coordinator)

    def show(self, key: SigningKey, **changes: Any) -> None:
        """The coordinator has evidence of an enclave that signs with this key."""
        program = changes.pop("program", "split_server")
        self.archive.signers[key.public] = self.platform.evidence(self.manifest, program, key, **changes)

    def chain(self, *rounds: int, after: SignedReceipt | None = None, **changes: Any) -> list[SignedReceipt]:
        """Receipts of these rounds, one after the other; `key` signs."""
        key, made = changes.pop("key", self.enclave), []
        previous = NO_RECEIPT if after is None else receipt_hash(after.receipt)
        for round in rounds:
            fields = {"program": "split_server", "output": None, "state": "c" * 64, **changes}
            made.append(make_receipt(self.manifest, round, previous, key, **fields))
            previous = receipt_hash(made[-1].receipt)
        return made

    def refused(self, *shown: SignedReceipt) -> str:
        self.archive.receipts = list(shown)
        return code_of(self.book.catch_up)

    def asked(self, receipt: SignedReceipt) -> ReleaseItem:
        """A release of the parameters after this receipt, as the coordinator asks for it."""
        return ReleaseItem(
            run=self.manifest.run,
            study="Triage",
            manifest_hash=self.manifest.hash,
            state="waiting",
            rule="export",
            receipt=msgspec.Raw(msgspec.json.encode(receipt)),
            found=0,
            needed=1,
            signed=False,
            kept=True,
            statement=NOT_GIVEN,
            evidence=None,
        )

    def order(self, receipt: SignedReceipt) -> releases.JudgedRelease:
        return releases.judge(self.state, self.line.coordinator, self.asked(receipt))


@pytest.fixture
def scene(state: State, line: Line, server: Server, platform: Platform, tmp_path: Path) -> Scene:  # noqa: F811
    return Scene(state, line, server, platform, tmp_path)


def code_of(act: Callable[[], Any]) -> str:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value.code


def test_a_receipt_that_anybody_has_signed_counts_nowhere(scene: Scene) -> None:
    stranger, other, elsewhere = (SigningKey.generate() for _ in range(3))
    scene.show(other, mrenclave="9" * 64)
    scene.show(elsewhere, program="aggregator")
    scene.archive.signers[stranger.public] = scene.archive.signers[scene.enclave.public]
    for key in (SigningKey.generate(), stranger, other, elsewhere):
        (forged,) = scene.chain(1, key=key)
        assert scene.refused(forged) == "receipt.unattested"
    closing = scene.chain(1, 2, 3, 4, key=stranger)[-1]
    scene.archive.receipts = [closing]
    assert code_of(lambda: scene.order(closing)) == "receipt.unattested"
    assert scene.book.last_hash() == NO_RECEIPT


def test_evidence_for_another_run_attests_no_signer_of_this_one(scene: Scene) -> None:
    key = SigningKey.generate()
    other = approved(scene.manifest, run="run-2")
    scene.archive.signers[key.public] = scene.platform.evidence(other, "split_server", key)
    assert scene.refused(*scene.chain(1, key=key)) == "receipt.unattested"


def test_a_new_signer_counts_only_once_its_enclave_was_attested_here(scene: Scene) -> None:
    scene.archive.receipts = scene.chain(1, 2)
    scene.book.catch_up()
    second = SigningKey.generate()
    after = scene.archive.receipts[-1]
    (third,) = scene.chain(3, after=after, key=second, restarts=1)
    assert scene.refused(third) == "receipt.unattested"
    scene.show(second)
    assert scene.book.catch_up() == receipt_hash(third.receipt)
    # A restart of the agent forgets neither signers nor receipts.
    scene.archive.signers.clear()
    scene.archive.receipts += scene.chain(4, after=third, key=second, restarts=1)
    assert scene.book.catch_up() == receipt_hash(scene.archive.receipts[-1].receipt)


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("a test before the closing round", "receipt.not_ours"),
        ("a second closing round", "receipt.not_ours"),
        ("another best round", "receipt.not_ours"),
        ("one that leaves a receipt out", "receipt.not_ours"),
        ("an aggregator's", "receipt.not_ours"),
        ("another run's", "receipt.not_ours"),
        ("a hardware mark on a development run", "receipt.not_ours"),
        ("a new key without a restart", "receipt.chain_broken"),
        ("an altered one", "sealing.bad_signature"),
    ],
)
def test_a_receipt_that_does_not_fit_into_the_run_is_refused(scene: Scene, what: str, code: str) -> None:
    good = scene.chain(1, 2)
    scene.archive.receipts = good
    last = scene.book.catch_up()
    other = SigningKey.generate()
    scene.show(other)
    match what:
        case "a test before the closing round":
            shown = scene.chain(scene.manifest.last_round, after=good[-1])
        case "a second closing round":
            shown = scene.chain(3, 4, after=good[-1])
            scene.archive.receipts = shown
            last = scene.book.catch_up()
            shown = scene.chain(5, after=shown[-1])
        case "another best round":
            best = Best(receipt_hash(good[0].receipt), 1, 0.1)
            shown = scene.chain(3, after=good[-1], metrics={"pooled": {"loss": 0.5}}, best=best)
        case "one that leaves a receipt out":
            shown = scene.chain(3, 4, after=good[-1])[1:]
        case "an aggregator's":
            shown = scene.chain(3, after=good[-1], program="aggregator")
        case "another run's":
            shown = scene.chain(3, after=good[-1], run="run-2")
        case "a hardware mark on a development run":
            shown = scene.chain(3, after=good[-1], development=False)
        case "a new key without a restart":
            shown = scene.chain(3, after=good[-1], key=other)
        case _:
            (kept,) = scene.chain(3, after=good[-1])
            shown = [msgspec.structs.replace(kept, receipt=msgspec.structs.replace(kept.receipt, issued=1))]
    assert scene.refused(*shown) == code
    assert scene.book.last_hash() == last


def test_two_receipts_for_one_place_are_kept_as_proof_and_nothing_follows(scene: Scene) -> None:
    good = scene.chain(1, 2, 3)
    scene.archive.receipts = good[:2]
    scene.book.catch_up()
    twin = scene.chain(2, after=good[0], issued=1_700_000_999)
    branch = scene.chain(3, after=good[0])
    for shown in (twin, branch):
        for proof in scene.state.receipts.rglob("fork-*.json"):
            proof.unlink()
        assert code_of(lambda shown=shown: scene.book.require_latest(plain(shown[0]))) == "receipt.fork"
        (proof,) = scene.state.receipts.rglob("fork-*.json")
        reported = msgspec.json.decode(proof.read_bytes())
        assert reported["known"] in plain(good) and reported["shown"] == plain(shown[0])
        assert scene.refused(*good) == "receipt.fork", "also when the coordinator shows the old one again"


def test_a_release_is_ordered_for_the_end_of_the_chain_and_for_nothing_else(scene: Scene) -> None:
    good = scene.chain(1, 2, 3, 4)
    scene.archive.receipts = good[:2]
    assert code_of(lambda: scene.order(good[1])) == "release.unfinished"
    scene.archive.receipts = good
    assert code_of(lambda: scene.order(good[2])) == "receipt.not_ours"
    assert scene.order(good[3]).fingerprint == receipt_hash(good[3].receipt)
