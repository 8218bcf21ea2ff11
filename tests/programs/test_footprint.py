"""How much memory an enclave takes when it is ready, read from the running process."""

from __future__ import annotations

from pathlib import Path

MIB = 1 << 20


def resident(process) -> int:
    """Bytes of physical memory that the program holds now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def libraries(process) -> set[str]:
    """Names of the files that the program has mapped."""
    lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    return {Path(line.split(maxsplit=5)[5]).name for line in lines if len(line.split(maxsplit=5)) == 6}


def test_an_aggregator_is_ready_in_80_mib_and_has_no_torch(consortium):
    aggregator = consortium().aggregator()
    assert resident(aggregator) <= 80 * MIB
    assert not any(name.startswith("libtorch") for name in libraries(aggregator))


def test_a_client_slice_is_ready_in_300_mib(consortium):
    run = consortium()
    assert resident(run.client("anna", run.aggregator())) <= 300 * MIB
