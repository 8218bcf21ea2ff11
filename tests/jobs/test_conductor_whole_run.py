"""Whole runs: a real coordinator, real enclaves, three hospitals that speak plain HTTP."""

from __future__ import annotations

import json

import pytest

from contracts.receipt_chain import parse_receipt, verify_chain
from tests.jobs.conftest import Consortium

pytestmark = pytest.mark.slow


def test_three_hospitals_train_two_rounds_and_evaluate(consortium: Consortium) -> None:
    run = consortium.launch()
    consortium.start()
    ended = consortium.finished(run)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    summary = ended["summary"]
    assert (summary["sites"], summary["rounds"], summary["receipts_verified"]) == (3, 2, 3)
    assert summary["samples"] == 2 * (12 + 16 + 20)
    assert summary["evaluated"] and summary["development"] and summary["enclave_restarts"] == 0
    assert 0 <= summary["accuracy"] <= 1
    assert summary["run_manifest"] == ended["manifest_hash"]
    rounds = consortium.rounds(run)
    assert [(row["number"], row["kind"], row["state"]) for row in rounds] == [
        (1, "train", "published"),
        (2, "train", "published"),
        (3, "evaluate", "published"),
    ]
    verify_chain(
        [parse_receipt(json.loads(row["receipt"])) for row in rounds], manifest=ended["manifest_hash"]
    )
    sealed = sum(
        row["bytes"] for row in consortium.rows("select bytes from enclave_jobs_blob where kind = 'update'")
    )
    assert summary["bytes_up"] == sealed > 0
    assert summary["bytes_down"] > 0
