"""One of the faults of `make bench-faults`: each run finishes, and no round is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.fault_list import FAULTS, OF_ENGINES

SHORT = "kill_all"


def test_there_are_at_least_twenty() -> None:
    assert len(FAULTS) >= 20 and not FAULTS.keys() & OF_ENGINES.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_one_machine_a_run_of_method_2_survives_that_all_is_killed(tmp_path: Path) -> None:
    with faults.installed(tmp_path, engines=False, method="method-2", runs=1) as (field, groups):
        assert faults.struck(field, groups[0], "method-2", FAULTS[SHORT]) > 0


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("engines", [False, True])
@pytest.mark.parametrize("method", ["method-1", "method-2"])
def test_every_fault_is_survived(method: str, engines: bool) -> None:
    found = faults.measure([*FAULTS, *(OF_ENGINES if engines else {})], method, engines)
    assert not {name: value for name, value in found.items() if isinstance(value, str)}
