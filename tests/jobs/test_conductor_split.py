"""Whole runs of Method 2: a real coordinator, a real split server, three hospitals without a TEE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from enclave.sealing.receipts import parse_receipt, verify_chain
from tests.jobs.conftest import Consortium

pytestmark = pytest.mark.slow

METHOD_2 = {"method": "method-2", "cut": 1, "attention_ratio": 50.0, "dense_ratio": 50.0}


def receipts(consortium: Consortium, run: str) -> list:
    rounds = consortium.rounds(run)
    return [parse_receipt(json.loads(row["receipt"])) for row in rounds if row["state"] == "published"]


def test_three_hospitals_send_features_once_and_the_server_trains_the_tail(consortium: Consortium) -> None:
    run = consortium.launch(**METHOD_2)
    consortium.start()
    ended = consortium.finished(run)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    summary = ended["summary"]
    assert (summary["sites"], summary["rounds"], summary["receipts_verified"]) == (3, 2, 3)
    assert summary["samples"] == 3 * (12 + 16 + 20)
    assert summary["parameters"] > 0 and summary["optimizer_bytes"] > 8 * summary["parameters"]
    verify_chain(receipts(consortium, run), manifest=ended["manifest_hash"])
    for hospital in consortium.hospitals.values():
        assert hospital.slice is None
        kinds = [line.split()[0] for line in hospital.done]
        assert kinds == ["features", "countersign", "countersign", "countersign"]


@pytest.fixture
def no_sealing_key(consortium: Consortium) -> Iterator[None]:
    """The server's platform is as a TDX machine is: no key outlives an enclave."""
    file = consortium.installation.folder / "supervisor" / "platform" / "sealing.secret"
    secret = file.read_bytes()
    file.write_bytes(b"")
    yield
    file.write_bytes(secret)


@pytest.mark.usefixtures("no_sealing_key")
def test_a_killed_server_without_a_sealing_key_goes_on_from_its_state_with_the_sites_shares(
    consortium: Consortium,
) -> None:
    run = consortium.launch(**METHOD_2)
    killed: list[int] = []

    def kill(job: dict[str, Any]) -> None:
        if job["round"] == 2 and not killed:
            killed.extend(consortium.kill("enclave.programs.split_server"))

    consortium.hospitals["clara"].hooks["countersign"] = kill
    consortium.start()
    ended = consortium.finished(run)
    assert killed and ended["state"] == "finished", (ended["error_code"], ended["facts"])
    published = [signed.receipt for signed in receipts(consortium, run)]
    assert [receipt.restarts for receipt in published][-1] == 1
    verify_chain(receipts(consortium, run), manifest=ended["manifest_hash"])
    shares = consortium.rows("select inputs from enclave_jobs_job where run_id = ? and kind = 'rewrap'", run)
    assert len(shares) == 3 and all("escrow" in json.loads(row["inputs"]) for row in shares)
