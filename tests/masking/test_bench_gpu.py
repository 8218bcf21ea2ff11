"""The prepared script for a GPU: on the CPU, in its place, with small sizes."""

import json

import pytest
import torch

from benchmarks import gpu

PARTS = ["pcie", "products tiny 24 3", "products tiny 24 4", "masked 64", "tail minilm"]


def test_without_a_gpu_it_measures_nothing_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == gpu.NO_GPU != 0
    out, err = capsys.readouterr()
    assert out == "" and "no GPU" in err


@pytest.mark.slow
def test_every_part_runs_and_says_what_it_is(capsys):
    assert gpu.main(["--device", "cpu", "--tiny"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(line["config"]["part"] for line in lines)) == PARTS
    assert all(line["value"] > 0 and line["config"]["gpu"] == "none" for line in lines)
    names = {line["figure"] for line in lines}
    assert {"gpu_masked_over_bf16", "gpu_tail_over_bf16", "gpu_share_of_pcie"} < names
    assert {line["goal"] for line in lines if line["figure"] == "gpu_share_of_pcie"} == {0.7}


def test_what_the_time_does_not_reach_is_named(capsys):
    assert gpu.main(["--device", "cpu", "--tiny", "--seconds", "0"]) == 0
    out, err = capsys.readouterr()
    assert {json.loads(line)["config"]["part"] for line in out.splitlines()} == {"pcie"}
    assert all(part in err for part in PARTS[1:])


def test_the_bound_of_the_bus_is_the_slower_direction():
    total = {"bf16": 2.0, "limbs": 3.0, "limbs_pcie": 8.0, "limbs_overlapped": 5.0}
    figures = gpu.layer({**total, "bytes_in": 40.0, "bytes_out": 30.0}, (10.0, 10.0))
    assert figures["gpu_pcie_bound"] == (4000.0, "ms") and figures["gpu_share_of_pcie"] == (0.8, "ratio")
    assert figures["gpu_limbs_overlapped_over_bf16"] == (2.5, "ratio")
    assert (
        gpu.layer({**total, "bytes_in": 10.0, "bytes_out": 30.0}, (10.0, 10.0))["gpu_pcie_bound"][0] == 3000.0
    )


def test_a_wrong_product_ends_the_run(monkeypatch):
    machine = gpu.Machine("cpu", 1)
    assert gpu.product(machine, 48, 32, 24, 3)["bytes_in"] == 24 * 32 * 3
    right = gpu.OnDevice.residues

    def wrong(self, low, high, weight):
        below, above = right(self, low, high, weight)
        below[-1, 0] += 1
        return below, above

    monkeypatch.setattr(gpu.OnDevice, "residues", wrong)
    with pytest.raises(SystemExit, match="wrong"):
        gpu.product(machine, 48, 32, 24, 3)
