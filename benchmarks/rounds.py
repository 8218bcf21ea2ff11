"""What a round costs the aggregator as sites come to it: `python -m benchmarks.rounds [--sites 10,50,200]`.

A real aggregator (development runtime) that admits so many client slices, looks into each of their sealed
updates once (`inspect`, as before a roster is fixed) and then aggregates them all. `round_seconds` is the
time of both, `cpu_seconds` what its process has computed meanwhile; `enclave_rss_mb` the highest resident
memory of its process (VmHWM). The exponents are those of time by sites, least squares over the logarithms: 1
is linear. Where all pairs of a round take 32 MiB at most, so at 10 sites, the aggregator also tells how far
sites deviate, which costs time and memory of its own; so exponents and ratio are told without the first size
as well. The updates are LoRA pairs of 2 MB of random numbers, sealed by keys that this benchmark holds.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept_figures import KeptFigures
from benchmarks.processes import cpu_seconds
from contracts.manifest import Aggregation, Lora, Training
from contracts.receipts import NO_RECEIPT
from enclave.programs.contributions import Enclosed
from enclave.training.metrics import Scores
from tests.programs.conftest import Consortium, House
from tests.support.installation import REPOSITORY

RANK, LAYERS = 8, 12
SCORES = Scores(8, 8, 4, 5.0, ((2, 2), (2, 2)))


def drawn(seed: int, megabytes: float) -> dict[str, Any]:
    """LoRA pairs of `LAYERS` layers' queries and values, together of this size."""
    width = round(megabytes * (1 << 20) / (4 * 2 * 2 * LAYERS * RANK))
    numbers, shapes = np.random.default_rng(seed), {"A": (RANK, width), "B": (width, RANK)}
    return {
        f"encoder.layer.{layer}.attention.self.{target}.lora_{side}.weight": numbers.normal(
            scale=0.02, size=shapes[side]
        ).astype(np.float32)
        for layer in range(LAYERS)
        for target in ("query", "value")
        for side in ("A", "B")
    }


def peak_mb(pid: int) -> float:
    """The highest resident memory that a process has had, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def round_of(folder: Path, count: int, megabytes: float, rule: Any) -> dict[str, float]:
    """One round of so many sites: its seconds, and what it has taken of memory."""
    names = [f"site-{number:04}" for number in range(count)]
    house = House(folder / "house", sites=names)
    manifest = house.manifest(
        adapter=Lora(RANK, 16, ("query", "value")),
        training=Training(rounds=1, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7),
        aggregation=Aggregation(rule, quorum=count, deadline_seconds=60),
    )
    run = Consortium(house, folder / "run", manifest)
    try:
        aggregator, blobs = run.aggregator(), {}
        for number, site in enumerate(names):
            identity, enclosed = run.rogue(aggregator, site), Enclosed(NO_RECEIPT, 12, SCORES)
            update = drawn(number, megabytes)
            blobs[site] = run.contribute(aggregator, identity, site, 1, enclosed, update)
        before, began, used = peak_mb(aggregator.pid), time.perf_counter(), cpu_seconds(aggregator.pid)
        for site, sha256 in blobs.items():
            aggregator.call("inspect", round=1, site=site, sha256=sha256)
        inspected = time.perf_counter() - began
        aggregator.call("aggregate", round=1, **run.roster(1, blobs))
        seconds = time.perf_counter() - began
        computed = cpu_seconds(aggregator.pid) - used
        return {"round_seconds": seconds, "cpu_seconds": computed, "inspect_seconds": inspected,
                "enclave_rss_mb": peak_mb(aggregator.pid), "rss_before_mb": before}  # fmt: skip
    finally:
        run.close()


def exponent(sites: list[int], seconds: list[float]) -> float:
    """Of seconds ~ sites ** exponent."""
    return float(np.polyfit(np.log(sites[: len(seconds)]), np.log(seconds), 1)[0])


def measure(sites: list[int], megabytes: float, rule: str, tell: Callable[..., None]) -> None:
    """Tells every figure as it comes: `tell(name, value, goal, **config)`."""
    config = {"megabytes": megabytes, "rule": rule}
    found: list[dict[str, float]] = []
    for count in sites:
        with tempfile.TemporaryDirectory(prefix="fs-rounds-") as folder:
            found.append(round_of(Path(folder), count, megabytes, rule))
        for name, value in found[-1].items():
            tell(name, value, None, sites=count, **config)
        for first in range(min(2, len(found) - 1)):
            measured = config | {"sites": sites[first : len(found)]}
            for name in ("round_seconds", "cpu_seconds"):
                steep = exponent(sites[first:], [one[name] for one in found[first:]])
                tell(f"{name}_exponent", steep, 1.1, **measured)
            peaks = [one["enclave_rss_mb"] for one in found[first:]]
            tell("enclave_rss_ratio", peaks[-1] / peaks[0], 1.2, **measured)


def main() -> int:
    """Measure, print the lines and then the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.rounds", description=__doc__.split("\n")[0])
    parser.add_argument("--sites", default="10,50" if os.environ.get("SMALL") else "10,50,200")
    parser.add_argument("--megabytes", type=float, default=2.0)
    parser.add_argument("--rule", default="fedavg", choices=("fedavg", "stack-svd"))
    options = parser.parse_args()
    sites = [int(each) for each in options.sites.split(",")]
    kept = KeptFigures(REPOSITORY / "var" / "bench-rounds.json", cores=os.cpu_count())
    measure(sites, options.megabytes, options.rule, kept.tell)
    return kept.end()


if __name__ == "__main__":
    sys.exit(main())
