"""Method 2's server in a real process: two sites' sealed features, two rounds, the closing evaluation."""

from __future__ import annotations

import pytest

from enclave.sealing.receipts import parse_receipt, verify_chain
from tests.programs.split_house import SplitRun, split_manifest

SITES = ("anna", "berta")


@pytest.fixture(scope="module")
def run(house, tmp_path_factory, consortium_class):
    folder = tmp_path_factory.mktemp("split")
    consortium = consortium_class(house, folder / "run", split_manifest(house))
    (folder / "sites").mkdir()
    run = SplitRun(consortium, folder / "sites")
    run.the_server = run.server()
    run.joined = {site: run.join(run.the_server, site) for site in SITES}
    run.rounds(run.the_server)
    yield run
    consortium.close()


def test_the_tail_learns_on_features_that_both_sites_have_sealed(run):
    losses = [result["metrics"]["pooled"]["loss"] for result in run.results]
    assert losses[-1] < losses[0]
    assert all(result["metrics"]["pooled"]["rows"] == 16 for result in run.results)


def test_the_receipts_are_one_chain_and_name_the_sites_shards(run):
    receipts = [parse_receipt(result["receipt"]) for result in run.results]
    verify_chain(receipts, manifest=run.manifest.hash)
    assert {signed.receipt.program for signed in receipts} == {"split_server"}
    for signed in receipts:
        named = [(item.site, item.sha256, item.samples) for item in signed.receipt.inputs]
        assert named == [
            (site, run.features(site).index.hash, run.features(site).index.examples("training"))
            for site in SITES
        ]
    assert run.features("anna").index.examples("training") == 12
