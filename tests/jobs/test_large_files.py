"""Large sealed files on all of their way: agent, web process, storage, mailbox, aggregator. But for the
enclave no process holds more of them than a few pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.large_files import features, update

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
PIECES_MB = 120
"""What agent, web process and worker may need more than before, whatever the file: frames, parts, a thread's
first connection."""


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_an_update_of_a_gigabyte_goes_through(tmp_path: Path, where: str) -> None:
    found = update(tmp_path, 953.6, where)
    assert found["update_megabytes"] > 999
    for process in ("agent", "web", "worker"):
        assert found[f"{process}_more_mb"] < PIECES_MB, (process, found)
    assert found["aggregator_more_mb"] < 1.15 * found["update_megabytes"], "opened once"


def test_a_feature_set_of_two_gigabytes_goes_through_in_little_memory(tmp_path: Path) -> None:
    found = features(tmp_path, 200.0, 10, "folder")
    assert found["kept_mb"] > 2097
    for process in ("agent", "web", "worker"):
        assert found[f"{process}_more_mb"] < PIECES_MB, (process, found)
