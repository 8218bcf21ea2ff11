"""A host starts the enclave of a served model again and again, each time with nothing counted, so that a
member who sides with it gets more answers than the hospitals have signed for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from contracts.manifest import Release
from contracts.receipts import receipt_hash
from contracts.sealed.handback import MOST_NAMED
from contracts.sealed.hpke import HpkeKey
from contracts.signing import SigningKey
from site_agent.receipts import ReceiptBook
from site_agent.state import State
from tests.site_agent.conftest import Line, Server, line, quick, server, state  # noqa: F401
from tests.site_agent.factories import make_receipt
from tests.site_agent.test_split_share import Scene, code_of

Make = Callable[[int], Scene]


@pytest.fixture
def make(state: State, line: Line, server: Server, tmp_path: Path) -> Make:  # noqa: F811
    return lambda answers: Scene(state, line, server, tmp_path, release=Release("serve-only", 1, answers))


def ends(scene: Scene) -> None:
    """The closing round is published: the parameters are chosen, and may be served."""
    last = receipt_hash(scene.receipt.receipt)
    closing = make_receipt(scene.manifest, 4, last, signer=scene.signs, program="split_server")
    scene.archive.receipts.append(closing)


def named(scene: Scene) -> str:
    """The receipt that the site names to another enclave, with keys of its own, as good as all before."""
    scene.enclave = HpkeKey.generate()
    keys = {"hpke_key": scene.enclave.public, "signing_key": SigningKey.generate().public}
    scene.session.claims = msgspec.structs.replace(scene.session.claims, **keys)
    return scene.opened(scene.work()).receipt


def test_an_agent_names_a_finished_run_to_so_many_enclaves_and_to_no_other(
    make: Make,
    line: Line,  # noqa: F811
) -> None:
    scene = make(1000)
    ends(scene)
    last = receipt_hash(scene.archive.receipts[-1].receipt)
    assert [named(scene) for _ in range(MOST_NAMED)] == [last] * MOST_NAMED
    claims = scene.session.claims
    assert code_of(lambda: named(scene)) == "serving.too_many_enclaves"
    # An agent that begins again forgets none of them, and answers one that it knows.
    scene.session.receipts = ReceiptBook(scene.state, scene.manifest, line.coordinator)
    assert code_of(lambda: named(scene)) == "serving.too_many_enclaves"
    scene.session.claims = claims
    assert scene.work().share


def test_enclaves_that_train_are_not_counted(make: Make) -> None:
    scene = make(1000)
    for _ in range(MOST_NAMED + 1):
        named(scene)
    ends(scene)
    named(scene)


def test_where_any_number_of_answers_is_allowed_any_number_of_enclaves_is(make: Make) -> None:
    scene = make(0)
    ends(scene)
    for _ in range(MOST_NAMED + 2):
        named(scene)
