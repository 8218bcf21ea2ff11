"""What the wizard says of memory is what a process really takes, within a fifth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.llm import SHAPES, WITHIN, estimated, make, measured_alone
from contracts.manifest import Lora
from federation.studies.memory import whole_bytes
from federation.studies.workload import Workload, trained_parameters

MEASURED = {
    ("small", 0, "tail"): 437, ("small", 0, "inside"): 531, ("small", 0, "slice"): 636,
    ("small", 0, "slice_behind_front"): 623, ("small", 0, "streamed"): 355,
    ("medium", 0, "front"): 501, ("medium", 0, "tail"): 671, ("medium", 0, "inside"): 1235,
    ("medium", 0, "slice"): 1055, ("medium", 1, "slice"): 600, ("1.1B", 1, "slice"): 1356,
}  # fmt: skip
"""(shape, rows at a time, process) -> MiB, as docs/results.md has them."""


@pytest.mark.parametrize(("name", "at_once", "process"), MEASURED)
def test_estimates_are_near_the_peaks_that_were_measured(name: str, at_once: int, process: str) -> None:
    peak = MEASURED[name, at_once, process] * 2**20
    assert WITHIN[0] * peak <= estimated(replace(SHAPES[name], at_once=at_once), process) <= WITHIN[1] * peak


def test_the_estimate_of_a_slice_of_minilm_is_near_the_peak_that_was_measured() -> None:
    """As `python -m benchmarks.slice_memory` had it: batches of 16, 128 tokens, everything inside."""
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    config = SimpleNamespace(model_type="bert", vocab_size=30522, max_position_embeddings=512, **shape)
    work = Workload(
        method="method-1", placement="all_in_tee", runtime="development",
        adapter=Lora(8, 16, ("query", "value")), cut=0, checkpointing=False, labels=2, tokens=128, batch=16,
        rounds=1, epochs=1, rows=(98,),
    )  # fmt: skip
    expected = whole_bytes(config, 22_713_728, work, trained_parameters(config, work)[0])
    assert WITHIN[0] * 758 <= expected / 2**20 <= WITHIN[1] * 758


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a shape's checkpoint lies, made when it is first asked for."""

    def made(name: str) -> Path:
        place = tmp_path_factory.getbasetemp() / f"random-{name}"
        if not place.exists():
            place.mkdir()
            make(SHAPES[name], place)
        return place

    return made


@pytest.mark.long
@pytest.mark.parametrize("name", ["small", "medium", "broad"])
@pytest.mark.parametrize("process", ["front", "tail", "inside", "slice", "slice_behind_front"])
def test_the_estimate_of_each_process_is_near_its_peak(name: str, process: str, folder) -> None:
    """Client slices with everything inside, masked and behind a front, the split server's tail, and a site's
    front: a small shape, of which most is the program; a middling one; and six layers of 1.1B's."""
    peak, expected = measured_alone(name, process, folder(name))["peak"], estimated(SHAPES[name], process)
    low, high = WITHIN
    assert low * peak <= expected <= high * peak, f"{peak / 2**20:.0f} MiB, not {expected / 2**20:.0f}"
