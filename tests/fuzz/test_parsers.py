"""Whatever bytes come, every parser of bytes that cross a boundary answers, or refuses by a catalogue's code.

The same changes every time (seeded), a second or so a target. Guided by coverage and for long: `make fuzz`.
"""

from __future__ import annotations

import random
import time
import warnings

import pytest

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import load
from tests.fuzz.trial import attempt

SECONDS = 1.0
MOST = 400
TARGETS = load()
PARTS = {"member of a bundle"}
"""One input stands for several files at once, so none is right for all."""
SILENT = {"host.json", "arguments of operations"}
"""What only ends the program, or is refused by its caller."""


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_it_reads_what_is_valid_and_refuses_what_is_not(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    draw, codes, until = random.Random(name), set(), time.process_time() + SECONDS
    assert seeds, "a target without a valid input tests little"
    assert name in PARTS or any(attempt(target, seed) is None for seed in seeds), "no seed is valid"
    for number in range(MOST):
        if time.process_time() > until and number > 20:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codes.add(attempt(target, mutated(seeds, draw)))
    assert codes - {None} or name in SILENT, "nothing was refused"
