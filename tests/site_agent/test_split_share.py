"""A share of a served model's key goes to the enclave that was verified, with the receipt seen last."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.agents_api.jobs import LeasedJob
from contracts.evidence import Claims
from contracts.jobs import ShareResult
from contracts.manifest import KeyShares, Manifest, Spf, Split
from contracts.receipts import receipt_hash
from contracts.refusal import Refusal
from contracts.sealed.handback import HandedBack, take_back
from contracts.sealed.hpke import HpkeKey
from contracts.sealed.session import decode
from contracts.sealed.shares import combine, deposit
from contracts.signing import SigningKey
from site_agent.methods.method_2.job_runner import SplitJobRunner
from site_agent.receipts import ReceiptBook
from site_agent.state import State
from tests.site_agent.archive import Archive, Platform
from tests.site_agent.conftest import SITE, Line, Server
from tests.site_agent.factories import OTHER, add_dataset, make_manifest, make_receipt

KEY = bytes(range(32))


@dataclass
class Verified:
    """A run session that has just found this enclave good; judging evidence has tests of its own."""

    manifest: Manifest
    claims: Claims
    receipts: ReceiptBook
    epochs: list[int]

    def verified(self, epoch: int, _tell: Any) -> Claims:
        self.epochs.append(epoch)
        return self.claims


class Quiet:
    """A lease nobody watches."""

    def tell(self, *_words: Any) -> None:
        """Nothing."""


class Scene:
    """The site's work of a run, an enclave's keys, and a state key in shares for both sites."""

    def __init__(self, state: State, line: Line, server: Server, folder: Path, **more: Any) -> None:
        platform = Platform(folder / "platform")
        changes = {
            "method": "method-2",
            "adapter": Spf(25.0, 25.0),
            "split": Split(1, shares=KeyShares(2)),
            "policy": platform.policy,
            **more,
        }
        self.state = state
        self.manifest = make_manifest(state, add_dataset(state, folder), **changes)
        self.enclave, self.other, signs = HpkeKey.generate(), HpkeKey.generate(), SigningKey.generate()
        claims = Claims("0" * 64, self.enclave.public, signs.public, self.manifest.hash, "split_server")
        book = ReceiptBook(state, self.manifest, line.coordinator)
        self.session = Verified(self.manifest, claims, book, [])
        receivers = {SITE: state.share_key.public, "site-2": self.other.public}
        self.escrow = deposit(KEY, receivers, 2, self.manifest.hash)
        self.receipt = make_receipt(self.manifest, 3, signer=signs, program="split_server")
        self.signs, self.archive = signs, Archive(server, self.receipt)
        self.archive.signers[signs.public] = platform.evidence(self.manifest, "split_server", signs)

    def work(self, **changes: Any) -> ShareResult:
        reported = {"enclave": "enclave-2", "epoch": 2, "escrow": msgspec.to_builtins(self.escrow)}
        inputs = msgspec.Raw(msgspec.json.encode(reported | changes))
        job = LeasedJob("job", "share", 1, 0, "run-1", self.manifest.hash, None, inputs)
        session: Any = self.session
        coordinator: Any = None
        lease: Any = Quiet()
        return SplitJobRunner(self.state, coordinator, session).do(job, lease)

    def opened(self, result: ShareResult, **changes: Any) -> HandedBack:
        expected = {"site": SITE, "site_key": self.state.key.public, "key": self.enclave} | changes
        return take_back(decode(result.share), manifest=self.manifest.hash, **expected)


@pytest.fixture
def scene(state: State, line: Line, server: Server, tmp_path: Path) -> Scene:
    return Scene(state, line, server, tmp_path)


def code_of(act: Any) -> str:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value.code


def test_the_share_goes_sealed_to_the_verified_enclave_and_makes_the_key_with_another(scene: Scene) -> None:
    from contracts.sealed.shares import withdraw

    reported = scene.opened(scene.work())
    assert scene.session.epochs == [2]
    assert reported.receipt == receipt_hash(scene.receipt.receipt)
    others = withdraw(scene.escrow, "site-2", scene.other, scene.manifest.hash)
    assert reported.share is not None
    assert combine({SITE: reported.share, "site-2": others}, 2, scene.escrow.commitment) == KEY


def test_nobody_but_that_enclave_opens_it_and_nobody_but_that_site_has_sealed_it(scene: Scene) -> None:
    result = scene.work()
    assert code_of(lambda: scene.opened(result, key=HpkeKey.generate())) == "sealing.refused"
    assert code_of(lambda: scene.opened(result, site_key=OTHER.public)) == "sealing.refused"
    assert code_of(lambda: scene.opened(result, site="site-2")) == "sealing.refused"


def test_no_share_leaves_while_a_receipt_of_an_enclave_that_was_never_verified_here_is_shown(
    scene: Scene,
) -> None:
    scene.archive.signers.clear()
    assert code_of(scene.work) == "receipt.unattested"


def test_a_share_of_another_escrow_than_the_manifests_stays_at_the_site(scene: Scene) -> None:
    alone = deposit(KEY, {SITE: scene.state.share_key.public}, 1, scene.manifest.hash)
    assert code_of(lambda: scene.work(escrow=msgspec.to_builtins(alone))) == "shares.other_escrow"
    stranger = deposit(
        KEY, {"site-9": scene.other.public, "site-2": scene.other.public}, 2, scene.manifest.hash
    )
    assert code_of(lambda: scene.work(escrow=msgspec.to_builtins(stranger))) == "shares.other_escrow"
    assert code_of(lambda: scene.work(escrow="x")) == "agent.bad_inputs"
    assert code_of(lambda: scene.work(epoch="2")) == "agent.bad_inputs"


def test_where_no_site_holds_a_share_the_last_receipt_is_named_alone(scene: Scene) -> None:
    reported = scene.opened(scene.work(escrow=None))
    assert (reported.share, reported.receipt) == (None, receipt_hash(scene.receipt.receipt))
