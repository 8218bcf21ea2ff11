"""A large sealed file on all of its way: `python -m benchmarks.large_files [--storage s3]`.

What a site's client slice would seal comes up by the agent's own uploader to a real web process, in a folder
or in a bucket (moto's server, straight into it), is read back by a worker where a bucket has it, comes into a
real aggregator's mailbox as a supervisor puts it there, and is opened and checked. With `--shards N` so many
files of that size follow one another, as the features of Method 2 do: each is made, sealed, brought up and
removed here before the next one, so that the disk holds them once. Memory is VmHWM of each process.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from benchmarks.kept_figures import KeptFigures
from benchmarks.rounds import RANK, SCORES, drawn, peak_mb
from contracts.kept_keys import signing_key
from contracts.manifest import Aggregation, Lora, Training
from contracts.receipts import NO_RECEIPT
from contracts.sealed.shards import ShardOrigin, draw_key, seal_shard
from enclave.programs.contributions import Enclosed
from site_agent import blobs
from site_agent.storage import Storage
from site_agent.transport import Coordinator
from tests.programs.conftest import Consortium, House
from tests.support.installation import REPOSITORY, Installation
from tests.support.instances import HERE
from tests.support.object_storage import REGION, object_storage

SCENE = """
from datetime import timedelta
from django.utils import timezone
from contracts.kept_keys import signing_secret
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import Job, JobKind
from enclave_jobs.runs.models import Run
from tests.jobs.cast import make_scene
scene = make_scene()
scene.offer(scene.anna, JobKind.TRAIN)
assert leases.lease(scene.anna.site)
Job.objects.update(lease_deadline=timezone.now() + timedelta(hours=2))
Run.objects.update(state="paused")  # nothing moves it on, and it takes files
print(scene.anna.site.pk, signing_secret(scene.anna.key).hex(), scene.run.pk)
"""
PUT_IN = """
from pathlib import Path
from enclave_host.mailbox import HostMailbox
from enclave_jobs.supervisor.enclaves import put_in
put_in(HostMailbox(Path({folder!r})), {name!r})
"""
BLOCK = 1 << 20


@dataclass
class Coordinating:
    """A coordinator of a web process, a worker and the rest, with one hospital that may send."""

    place: Installation
    storage: str | None
    hospital: list[str] = field(default_factory=list)

    def send(self, *more: str) -> dict[str, float]:
        """By the agent's own code in a process of its own; what it tells of itself."""
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.large_files", "--as-agent", self.place.url, *self.hospital,
             self.storage or "-", *more],
            cwd=REPOSITORY, env=self.place.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(done.stderr[-4000:])
        answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def peaks(self) -> dict[str, float]:
        """Highest memory of the processes that a file passes, in MB."""
        patterns = {"web": "uvicorn", "worker": "celery --app federation worker"}
        return {name: max(map(peak_mb, self.place.pids(one)), default=0) for name, one in patterns.items()}


@contextmanager
def coordinating(folder: Path, where: str) -> Iterator[Coordinating]:
    """`where`: folder or s3."""
    with ExitStack() as stack:
        place, address = Installation(folder / "coordinator"), None
        place.folder.mkdir()
        if where == "s3":
            storage = stack.enter_context(object_storage())
            storage.create("sealed")
            address = storage.address
            place.engines = {"FEDSLICE_STORAGE": storage.setting("sealed"), "FEDSLICE_STORAGE_REGION": REGION,
                             "FEDSLICE_STORAGE_FOR_SITES": address}  # fmt: skip
        stack.callback(place.stop)
        place.start()
        yield Coordinating(place, address, place.shell(SCENE).split())


def update(folder: Path, megabytes: float, where: str) -> dict[str, float]:
    """One update of this size on all of its way."""
    house = House(folder / "house", sites=["anna", "berta", "carla"])
    manifest = house.manifest(
        adapter=Lora(RANK, 16, ("query", "value")),
        training=Training(rounds=1, local_epochs=1, batch_size=4, learning_rate=0.01, seed=7),
        aggregation=Aggregation("fedavg", quorum=1, deadline_seconds=60),
    )
    run = Consortium(house, folder / "run", manifest)
    with ExitStack() as stack:
        stack.callback(run.close)
        aggregator = run.aggregator()
        identity, enclosed = run.rogue(aggregator, "anna"), Enclosed(NO_RECEIPT, 12, SCORES)
        name = run.contribute(aggregator, identity, "anna", 1, enclosed, drawn(1, megabytes))
        sealed = run.folder / "rogue" / "out" / name
        aggregator.mailbox.discard(name)
        size = sealed.stat().st_size
        to = stack.enter_context(coordinating(folder, where))
        before = to.peaks()
        agent = to.send("update", str(sealed), name)
        after = to.peaks()
        sealed.unlink()
        began = time.monotonic()
        to.place.shell(PUT_IN.format(folder=str(aggregator.mailbox.folder), name=name))
        put_in = time.monotonic() - began
        empty = peak_mb(aggregator.pid)
        seen = aggregator.call("inspect", round=1, site="anna", sha256=name)
        assert seen["samples"] == 12
        return {"update_megabytes": size / 1e6, **agent, "put_in_seconds": put_in,
                "aggregator_more_mb": peak_mb(aggregator.pid) - empty,
                **{f"{process}_more_mb": after[process] - before[process] for process in after},
                **{f"{process}_peak_mb": after[process] for process in after}}  # fmt: skip


def features(folder: Path, megabytes: float, shards: int, where: str) -> dict[str, float]:
    """So many shards of this size, one after the other, up to a coordinator that keeps them all."""
    with coordinating(folder, where) as to:
        to.send("features", str(folder), "1", "1")
        before = to.peaks()
        agent = to.send("features", str(folder), str(megabytes), str(shards))
        after = to.peaks()
        kept = sum(file.stat().st_size for file in (to.place.folder / "blobs").rglob("*") if file.is_file())
        return {"feature_megabytes": shards * megabytes * BLOCK / 1e6, **agent, "kept_mb": kept / 1e6,
                **{f"{process}_more_mb": after[process] - before[process] for process in after}}  # fmt: skip


class _Drawn(io.RawIOBase):
    """So many bytes, the same block again and again: what is sealed is different each time."""

    def __init__(self, size: int) -> None:
        self._block, self._left = os.urandom(BLOCK), size

    def readinto(self, buffer: Any, /) -> int:
        count = min(self._left, len(buffer), BLOCK)
        buffer[:count] = self._block[:count]
        self._left -= count
        return count


def as_agent(url: str, site: str, key: str, run: str, storage: str, what: str, *more: str) -> None:
    """What a hospital's process does, and then tells of its memory and time."""
    line = Coordinator(url, (site, signing_key(bytes.fromhex(key)), HERE), insecure_http=True)
    if storage != "-":
        line.storage = Storage(storage, insecure_http=True)
    began, before = time.monotonic(), peak_mb(os.getpid())
    if what == "update":
        file, name = more
        blobs.upload(line, Path(file), name, run)
    else:
        folder, megabytes, shards = more
        for number in range(int(shards)):
            file = Path(folder, "shard.sealed")
            with file.open("wb") as out:
                source = cast(BinaryIO, _Drawn(round(float(megabytes) * BLOCK)))
                about = ShardOrigin(site, "0" * 64, "training", number)
                sealed = seal_shard(source, out, key=draw_key(), about=about)
            blobs.upload(line, file, sealed.sha256, run, kind="shard")
            file.unlink()
    most = peak_mb(os.getpid())
    seconds = time.monotonic() - began
    found = {"upload_seconds": seconds, "agent_more_mb": most - before, "agent_peak_mb": most}
    print(json.dumps(found))


def main() -> int:
    """Measure, print the lines and then the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.large_files", description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=float, default=953.6, help="of 2^20 bytes")
    parser.add_argument("--shards", type=int, default=0, help="so many files of features, and no update")
    parser.add_argument("--storage", choices=("folder", "s3"), default="folder")
    parser.add_argument("--as-agent", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_agent:
        as_agent(*options.as_agent)
        return 0
    kept = KeptFigures(REPOSITORY / "var" / "bench-large-files.json", cores=os.cpu_count())
    with tempfile.TemporaryDirectory(prefix="fs-large-") as folder:
        if options.shards:
            found = features(Path(folder), options.megabytes, options.shards, options.storage)
        else:
            found = update(Path(folder), options.megabytes, options.storage)
    for name, value in found.items():
        kept.tell(
            name, value, None, storage=options.storage, megabytes=options.megabytes, shards=options.shards
        )
    return kept.end()


if __name__ == "__main__":
    sys.exit(main())
