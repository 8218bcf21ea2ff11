"""Whole runs of Method 2: a real coordinator, a real split server, three hospitals without a TEE."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import msgspec
import pytest

from attestation.trust_domain import development_reference
from contracts.receipt_chain import parse_receipt, verify_chain
from contracts.receipts import SignedReceipt
from contracts.sealed.shards import open_shard
from site_agent.methods.method_2.features import CachedIndex, FeatureCache
from tests.jobs.conftest import Consortium
from tests.support.on_disk import contents

pytestmark = pytest.mark.slow

TWO = ("anna", "berta")
METHOD_2 = {
    "method": "method-2",
    "cut": 1,
    "attention_ratio": 50.0,
    "dense_ratio": 50.0,
    "local_epochs": 4,
    "learning_rate": 1e-3,
}


def receipts(consortium: Consortium, run: str) -> list[SignedReceipt]:
    rounds = consortium.rounds(run)
    return [parse_receipt(json.loads(row["receipt"])) for row in rounds if row["state"] == "published"]


def scores(consortium: Consortium, run: str) -> list[dict[str, Any]]:
    reported = [signed.receipt.metrics for signed in receipts(consortium, run)]
    return [metrics.get("pooled") or metrics["test"] for metrics in reported]


@pytest.fixture(scope="module")
def undisturbed(coordinator: Consortium) -> Iterator[str]:
    """A run that nobody disturbs."""
    run = coordinator.launch(**METHOD_2)
    coordinator.start()
    ended = coordinator.finished(run)
    done = {name: list(hospital.done) for name, hospital in coordinator.hospitals.items()}
    coordinator.stop()
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    for lines in done.values():
        assert [line.split()[0] for line in lines] == ["features", *["countersign"] * 4]
    yield run


def test_three_hospitals_send_features_once_and_the_server_trains_the_tail(
    undisturbed: str, consortium: Consortium
) -> None:
    ended = consortium.run(undisturbed)
    summary = ended["summary"]
    assert (summary["sites"], summary["rounds"], summary["receipts_verified"]) == (3, 2, 4)
    assert summary["samples"] == 4 * (12 + 16 + 20)
    assert summary["parameters"] > 0 and summary["optimizer_bytes"] > 8 * summary["parameters"]
    verify_chain(receipts(consortium, undisturbed), manifest=ended["manifest_hash"])
    # Whether a tail learns is tested on rows that can be learnt from; these are too few.
    assert [len(scores(consortium, undisturbed)), ended["summary"]["test"]["rows"]] == [4, 24]
    assert ended["summary"]["test"]["cell"] == 5 and sum(ended["summary"]["test"]["truth"]) > 0
    assert all(hospital.slice is None for hospital in consortium.hospitals.values())


def test_no_row_label_or_feature_is_found_in_anything_that_the_coordinator_keeps(
    undisturbed: str, consortium: Consortium
) -> None:
    """Texts as they are, and windows of the open shards (features, and the lengths and labels at the end)."""
    needles: list[bytes] = []
    for hospital in consortium.hospitals.values():
        lines = hospital.rows.read_text().splitlines()
        needles += [json.loads(line)["text"].encode() for line in lines]
        (origin,) = (hospital.folder / "features").iterdir()
        kept = msgspec.json.decode((origin / "index.json").read_bytes(), type=CachedIndex)
        for place, key in enumerate(kept.keys):
            about, plain = kept.index.about(place), BytesIO()
            with (origin / f"{about.purpose}-{about.number:05d}.sealed").open("rb") as file:
                open_shard(file, plain, key=bytes.fromhex(key), about=about, limit=1 << 30)
            content = plain.getvalue()
            middle = len(content) // 2 // 64 * 64
            needles += [content[middle : middle + 48], content[-48:], bytes.fromhex(key), key.encode()]
    files = []
    for file, content in contents(consortium.installation.folder):
        files.append(file)
        found = [needle for needle in needles if needle in content]
        assert not found, (file, found)
    assert any("blobs" in file.parts for file in files)
    assert any(file.name == "coordinator.sqlite3" for file in files)
    opened = [line for line in needles if line in hospital.rows.read_bytes()]
    assert opened  # the search does find what is there


@pytest.mark.long
def test_a_server_killed_in_mid_epoch_costs_time_and_nothing_is_uploaded_again(
    consortium: Consortium,
) -> None:
    # Enough epochs that a round takes long enough to be killed in its middle.
    long_rounds = {**METHOD_2, "local_epochs": 60}
    undisturbed = consortium.launch(**long_rounds)
    consortium.start()
    assert consortium.finished(undisturbed)["state"] == "finished"
    consortium.stop()
    run = consortium.launch(**long_rounds)
    consortium.start()
    consortium.until(run, 2, "aggregating")
    time.sleep(0.5)
    assert len(consortium.kill("enclave.programs.split_server")) == 1
    ended = consortium.finished(run)
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    summary = ended["summary"]
    assert (summary["enclave_restarts"], summary["rounds_failed"]) == (1, 0)
    assert scores(consortium, run) == scores(consortium, undisturbed)
    for hospital in consortium.hospitals.values():
        kinds = [line.split()[0] for line in hospital.done]
        assert (kinds.count("features"), kinds.count("rewrap"), kinds.count("countersign")) == (1, 1, 4)
    shards = consortium.rows("select sha256 from enclave_jobs_blob where kind = 'shard' and run_id = ?", run)
    indexes = consortium.rows("select * from enclave_jobs_features where run_id = ?", run)
    named = [shard["sha256"] for row in indexes for shard in json.loads(row["index"])["shards"]]
    assert sorted(row["sha256"] for row in shards) == sorted(named)


def test_a_site_whose_features_are_of_another_dataset_is_left_out_by_code(consortium: Consortium) -> None:
    clara = consortium.hospitals["clara"]

    def store(job: dict[str, Any]) -> FeatureCache:
        manifest = clara.manifest(job)
        other = tuple(
            msgspec.structs.replace(site, dataset=msgspec.structs.replace(site.dataset, digest="e" * 64))
            for site in manifest.sites
        )
        return FeatureCache(clara.folder / "other", msgspec.structs.replace(manifest, sites=other), "clara")

    clara.store = store  # type: ignore[method-assign]
    try:
        run = consortium.launch(**METHOD_2)
        consortium.start()
        ended = consortium.finished(run)
    finally:
        del clara.store
    assert ended["state"] == "finished", (ended["error_code"], ended["facts"])
    refused = consortium.contributions(run, 1)["clara"]
    assert (refused["state"], refused["error_code"]) == ("refused", "features.stale")
    assert "clara" not in consortium.contributions(run, 2)
    for signed in receipts(consortium, run):
        assert [item.site for item in signed.receipt.inputs] == ["anna", "berta"]


@pytest.fixture
def trust_domains(consortium: Consortium) -> Iterator[None]:
    """The server's platform is as a TDX machine is: no key outlives an enclave, and the launcher measures."""
    platform = consortium.installation.folder / "supervisor" / "platform"
    secret = (platform / "sealing.secret").read_bytes()
    consortium.installation.shell(
        "from attestation.trust_domain import development_reference\n"
        "from federation.attestation.references import add\n"
        "add(None, development_reference('split_server'), root='development', reason='trust domains')"
    )
    (platform / "sealing.secret").write_bytes(b"")
    (platform / "tee").write_text("tdx")
    yield
    (platform / "sealing.secret").write_bytes(secret)
    (platform / "tee").write_text("sgx")


@pytest.mark.usefixtures("trust_domains")
@pytest.mark.long
def test_a_killed_server_without_a_sealing_key_goes_on_from_its_state_with_the_sites_shares(
    consortium: Consortium,
) -> None:
    run = consortium.launch(TWO, **METHOD_2, key_shares=2)
    killed: list[int] = []

    def kill(job: dict[str, Any]) -> None:
        if job["round"] == 2 and not killed:
            killed.extend(consortium.kill("enclave.programs.split_server"))

    consortium.hospitals["berta"].hooks["countersign"] = kill
    consortium.start()
    ended = consortium.finished(run)
    assert killed and ended["state"] == "finished", (ended["error_code"], ended["facts"])
    published = [signed.receipt for signed in receipts(consortium, run)]
    assert [receipt.restarts for receipt in published][-1] == 1
    verify_chain(receipts(consortium, run), manifest=ended["manifest_hash"])
    shares = consortium.rows("select inputs from enclave_jobs_job where run_id = ? and kind = 'rewrap'", run)
    assert len(shares) == 2 and all("escrow" in json.loads(row["inputs"]) for row in shares)
    judged = consortium.rows("select * from attestation_appraisalrecord where run_id = ?", run)
    reference = development_reference("split_server").measurement
    assert {(row["tee"], row["verdict"], row["measurement"]) for row in judged} == {
        ("tdx", "accepted", reference)
    }
    assert {receipt.measurement for receipt in published} == {reference}
