"""What an agent has seen of collateral in any run is a floor for what follows and for what it approves."""

from pathlib import Path

import msgspec
import pytest

from attestation.floors import Floor, Floors
from contracts.canonical import canonical
from contracts.policy import CollateralFloor
from contracts.refusal import Refusal
from site_agent.approvals import WaitingManifest, judge
from site_agent.evidence import FloorBook
from site_agent.state import State
from tests.site_agent.factories import add_dataset, make_manifest

SEEN = Floor("e" * 64, "00a067110000", "platform", 17, 17, 1, 4)


def test_the_book_only_rises_and_is_read_again_by_the_next_run(tmp_path: Path) -> None:
    FloorBook(tmp_path).rise(SEEN)
    FloorBook(tmp_path).rise(msgspec.structs.replace(SEEN, tcb_evaluation=16, pck_crl_number=5))
    assert FloorBook(tmp_path).load() == Floors((msgspec.structs.replace(SEEN, pck_crl_number=5),))


def test_a_damaged_book_is_not_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "floors.json").write_bytes(b"{}x")
    with pytest.raises(Refusal) as refused:
        FloorBook(tmp_path).load()
    assert refused.value.code == "agent.state_damaged"


def test_a_manifest_that_goes_back_behind_what_this_site_has_seen_is_not_approved(
    state: State, tmp_path: Path
) -> None:
    dataset = add_dataset(state, tmp_path)
    policy = make_manifest(state, dataset).policy
    floor = CollateralFloor("00a067110000", "platform", 17, 17, 1, 4, 1, 1, 1, 1)
    older = msgspec.structs.replace(floor, pck_crl_number=3)

    def offered(*floors: CollateralFloor) -> WaitingManifest:
        named = msgspec.structs.replace(policy, floors=floors)
        manifest = make_manifest(state, dataset, policy=named)
        return WaitingManifest("Triage", manifest.hash, canonical(manifest).decode(), False)

    judge(state, offered())  # nothing was seen yet
    FloorBook(state.folder).rise(msgspec.structs.replace(SEEN, root_sha256=policy.root_sha256))
    judge(state, offered(floor))
    for behind in ((), (older,)):
        with pytest.raises(Refusal) as refused:
            judge(state, offered(*behind))
        assert refused.value.code == "attest.policy_floor"
