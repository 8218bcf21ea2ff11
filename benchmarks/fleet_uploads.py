"""What a sealed file costs the coordinator on its way up. Called by `benchmarks/fleet.py`.

The agent's own uploader, frames of 1 MiB with a token each, against the real web process. `upload_mb_per_s`
is per core that the coordinator computes, with all of its processes.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks.fleet_engines import Engines
from benchmarks.fleet_idle import cpu_of
from benchmarks.kept_figures import KeptFigures
from benchmarks.rounds import peak_mb
from contracts.kept_keys import signing_key
from site_agent import blobs
from site_agent.transport import Coordinator
from tests.support.installation import Installation
from tests.support.instances import HERE

SCENE = """
from contracts.kept_keys import signing_secret
from enclave_jobs.runs.models import Run
from tests.jobs.cast import make_scene
scene = make_scene()
Run.objects.update(state="paused")  # nothing moves it on, and it takes files
print(scene.anna.site.pk, signing_secret(scene.anna.key).hex(), scene.run.pk)
"""


def measure(kept: KeptFigures, place: Installation, engines: Engines, megabytes: int) -> None:
    """One file of random bytes, up and down again."""
    site, key, run = place.shell(SCENE).split()
    agent = Coordinator(place.url, (site, signing_key(bytes.fromhex(key)), HERE), insecure_http=True)
    with tempfile.TemporaryDirectory(prefix="fs-uploads-") as folder:
        file = Path(folder, "sealed")
        with file.open("wb") as out:
            for _ in range(megabytes):
                out.write(os.urandom(1_000_000))
        name = blobs.file_sha256(file)
        before, own, began = cpu_of(place, engines), time.process_time(), time.monotonic()
        blobs.upload(agent, file, name, run)
        lasted = time.monotonic() - began
        after, agents = cpu_of(place, engines), time.process_time() - own
    cores = {part: round(after[part] - used, 3) for part, used in before.items()}
    reported = {"megabytes": megabytes, "cpu_seconds": cores, "agents_cpu_seconds": round(agents, 2)}
    kept.tell("upload_mb_per_s", megabytes / sum(cores.values()), **reported, on_the_clock=round(lasted, 1))
    (web,) = place.pids("uvicorn")
    kept.tell("upload_web_peak_mb", peak_mb(web), megabytes=megabytes)
