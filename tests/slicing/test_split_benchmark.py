"""The benchmark of Method 2 measures what it says, and its goals are those of the issue."""

from __future__ import annotations

import pytest

from benchmarks import split as bench

TINY = bench.BenchmarkShape(layers=4, batch=2, examples=4, tokens=8, rounds=1)


@pytest.fixture(scope="module")
def lines():
    model = bench.base_model("minilm", TINY, "cpu")
    return [
        *bench.epochs(model, TINY, "cpu"),
        *bench.steps(model, TINY, "cpu"),
        *bench.answers(model, TINY, "cpu"),
    ]


def test_figures_and_goals_are_those_that_were_set(lines):
    goals = {
        (found["figure"], found["config"].get("ratio", found["config"]["k"])): found["goal"]
        for found in lines
        if found["goal"] is not None
    }
    bytes_goals = {("optimizer_bytes_over_full", r): round(r / 100 * 1.05, 6) for r in bench.RATIOS}
    assert goals == bytes_goals | {
        ("epoch_over_full_lora", 0.5): 0.6,
        ("epoch_over_full_lora", 0.75): 0.35,
        ("spf_step_over_lora_step", 25.0): 1.1,
    }
    assert all(found["better"] == "lower" and found["value"] > 0 for found in lines)
    assert {found["config"]["ratio"] for found in lines if "ratio" in found["config"]} == set(bench.RATIOS)


def test_bytes_are_measured_and_agree_with_the_plan(lines):
    for found in lines:
        if found["figure"] == "optimizer_bytes_over_full":
            config = found["config"]
            assert found["value"] == pytest.approx(config["taken"], rel=1e-3)
            assert 0 < config["planned_bytes"] - config["bytes"] < 8 * (385 * 384 + 385 * 4) + 17


def test_the_served_rival_answers_what_the_whole_model_does():
    served, local = bench.serving.rivals(bench.base_model("minilm", TINY, "cpu"), 2, [[5, 6, 7], [8]])
    for asked, own in zip(served(), local(), strict=True):
        assert asked == pytest.approx(own, abs=0.02)  # features travel as bf16


def test_shards_are_sealed_and_opened_against_the_goal_that_was_set(tmp_path):
    found = [one.line(1) for one in bench.sealing.measure(1, tmp_path, ("shard",))]
    assert [(line["figure"], line["goal"], line["better"]) for line in found] == [
        ("seal_over_raw_gcm", 0.6, "higher"),
        ("open_over_raw_gcm", 0.6, "higher"),
    ]
    assert all(line["config"]["what"] == "shard" and line["value"] > 0 for line in found)
