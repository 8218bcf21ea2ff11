"""What the wizard says of memory is what a process really takes, within a fifth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.llm import SHAPES, WITHIN, estimated, make, measured_alone

MEASURED = {
    ("small", 0, "tail"): 437, ("small", 0, "inside"): 531, ("small", 0, "slice"): 636,
    ("medium", 0, "front"): 501, ("medium", 0, "tail"): 671, ("medium", 0, "inside"): 1235,
    ("medium", 0, "slice"): 1055, ("medium", 1, "slice"): 600,
}  # fmt: skip
"""(shape, rows at a time, process) -> MiB, as docs/results.md has them."""


@pytest.mark.parametrize(("name", "at_once", "process"), MEASURED)
def test_estimates_are_near_the_peaks_that_were_measured(name: str, at_once: int, process: str) -> None:
    peak = MEASURED[name, at_once, process] * 2**20
    assert WITHIN[0] * peak <= estimated(replace(SHAPES[name], at_once=at_once), process) <= WITHIN[1] * peak


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
