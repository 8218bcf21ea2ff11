"""A site that owns its (development) platform can pass off its own program as a client slice. What that
seals is well sealed and badly filled; the aggregator names the site, and the round goes on without it."""

import json
from io import BytesIO

import numpy as np
import pytest
import safetensors.numpy

from contracts.canonical import canonical
from contracts.manifest import Aggregation
from contracts.receipts import NO_RECEIPT
from enclave.programs import sealing
from enclave.programs.contributions import Enclosed
from enclave.training.metrics import Scores
from enclave.training.tensors import METADATA
from tests.programs.conftest import DATASET_KEY
from tests.programs.own_slices import OwnSlices

GOOD_SCORES = Scores(8, 8, 4, 5.0, ((2, 2), (2, 2)))
GOOD = Enclosed(NO_RECEIPT, 20, GOOD_SCORES)


@pytest.fixture(scope="module")
def world(house, tmp_path_factory, consortium_class):
    """Anna is honest and has trained round 1. Berta is a rogue with an admitted key."""
    folder = tmp_path_factory.mktemp("rogue")
    manifest = house.manifest(aggregation=Aggregation("fedavg", quorum=1, deadline_seconds=60))
    world = consortium_class(house, folder / "run", manifest)
    world.agg = world.bound("aggregator", "coordinator")
    world.blob = OwnSlices(world, world.agg, ("anna",)).train(1)["anna"]
    world.identity = world.rogue(world.agg, "berta")
    world.honest = honest_state(world)
    yield world
    world.close()


def honest_state(world):
    from enclave.programs.learner import load_learner

    return load_learner(
        world.manifest, "berta", world.house.model, world.house.rows["berta"], DATASET_KEY
    ).initial


def contribute(world, state, enclosed=GOOD, round=1):
    return world.contribute(world.agg, world.identity, "berta", round, enclosed, state)


def changed(state, **changes):
    """The state with the tensors of all LoRA A's replaced by what `changes` makes of them."""
    return {name: changes["a"](tensor) if "lora_A" in name else tensor for name, tensor in state.items()}


BAD_STATES = {
    "no tensors": (lambda state: {}, "tensors.names"),
    "a tensor too many": (
        lambda state: state | {"base_model.more.lora_C.weight": np.zeros(2, np.float32)},
        "tensors.names",
    ),
    "only half of the pairs": (
        lambda state: {name: t for name, t in state.items() if "lora_B" not in name},
        "tensors.names",
    ),
    "layers that nobody tunes": (
        lambda state: {name.replace("query", "key"): t for name, t in state.items()},
        "tensors.names",
    ),
    "another rank": (
        lambda state: changed(state, a=lambda t: np.zeros((5, t.shape[1]), np.float32)),
        "tensors.shape",
    ),
    "another width": (
        lambda state: changed(state, a=lambda t: np.zeros((4, 7), np.float32)),
        "tensors.shape",
    ),
    "another type": (lambda state: changed(state, a=lambda t: t.astype(np.float64)), "tensors.dtype"),
    "not a number": (lambda state: changed(state, a=lambda t: t * np.float32("nan")), "tensors.not_finite"),
    "infinite": (lambda state: changed(state, a=lambda t: t + np.float32("inf")), "tensors.not_finite"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_bad_parameters_are_refused_by_the_sites_name(world, refusal_of, monkeypatch, case):
    """Written by the format's library, which writes any type of numbers."""

    def written(state, beside):
        return BytesIO(safetensors.numpy.save(state, {METADATA: canonical(beside).decode()}))

    monkeypatch.setattr(sealing, "as_file", written)
    make, cause = BAD_STATES[case]
    sha256 = contribute(world, make(world.honest))
    roster = world.roster(1, {"anna": world.blob, "berta": sha256})
    refusal = refusal_of(world.agg.call, "aggregate", round=1, **roster)
    assert refusal.code == "round.bad_contribution"
    assert (refusal.facts["site"], refusal.facts["cause"]) == ("berta", cause)
    if case != "another width":  # alone it is a possible width; beside anna's it is not
        seen = refusal_of(world.agg.call, "inspect", round=1, site="berta", sha256=sha256)
        assert seen.facts == refusal.facts


BAD_ENCLOSED = {
    "no samples": (Enclosed(NO_RECEIPT, 0, GOOD_SCORES), "round.not_a_contribution"),
    "another past": (Enclosed("5" * 64, 20, GOOD_SCORES), "round.continues_another"),
    "more labels": (
        Enclosed(NO_RECEIPT, 20, Scores(3, 3, 3, 1.0, ((1, 0, 0), (0, 1, 0), (0, 0, 1)))),
        "metrics.mismatch",
    ),
    "more right than asked": (
        Enclosed(NO_RECEIPT, 20, Scores(8, 8, 9, 5.0, ((2, 2), (2, 2)))),
        "metrics.mismatch",
    ),
    "negative loss": (Enclosed(NO_RECEIPT, 20, Scores(8, 8, 4, -5.0, ((2, 2), (2, 2)))), "metrics.mismatch"),
    "more rows than the sites approved": (Enclosed(NO_RECEIPT, 1000, GOOD_SCORES), "round.too_many_rows"),
    "samples that break the average": (
        Enclosed(NO_RECEIPT, 1 << 50, GOOD_SCORES),
        "round.not_a_contribution",
    ),
}


@pytest.mark.parametrize("case", BAD_ENCLOSED)
def test_counts_that_cannot_be_are_refused(world, refusal_of, case):
    enclosed, cause = BAD_ENCLOSED[case]
    sha256 = contribute(world, world.honest, enclosed)
    refusal = refusal_of(world.agg.call, "inspect", round=1, site="berta", sha256=sha256)
    assert (refusal.facts["site"], refusal.facts["cause"]) == ("berta", cause)


def test_the_round_goes_on_without_the_bad_contribution(world, refusal_of):
    """Inspected first, dropped, and then a roster without it: the sites countersign only once."""
    sha256 = contribute(world, BAD_STATES["not a number"][0](world.honest))
    assert (
        refusal_of(world.agg.call, "inspect", round=1, site="berta", sha256=sha256).facts["site"] == "berta"
    )
    result = world.agg.call("aggregate", round=1, **world.roster(1, {"anna": world.blob}))
    assert [entry["site"] for entry in result["receipt"]["receipt"]["inputs"]] == ["anna"]
    assert json.dumps(result)


def test_from_then_on_the_global_parameters_are_the_template(world, refusal_of):
    previous = world.agg.call("status")["receipt"]
    wider = contribute(
        world, BAD_STATES["another width"][0](world.honest), Enclosed(previous, 20, GOOD_SCORES), 2
    )
    seen = refusal_of(world.agg.call, "inspect", round=2, site="berta", sha256=wider)
    assert seen.facts["cause"] == "tensors.shape"
