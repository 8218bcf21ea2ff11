"""What a waiting coordinator costs, and how soon work reaches a site: `python -m benchmarks.fleet [--small]`.

A whole coordinator (`manage.py stack`, on SQLite and its own Redis, or on what FEDSLICE_DATABASE and
FEDSLICE_REDIS name) with simulated agents that speak the agents' API: signed tokens, kept connections,
requests that wait. `idle_cpu_cores` is the CPU time of all its processes while nothing happens;
`lease_p95_ms` the time from the commit that offers a job to the agent's having read it. 1,000 sites and five
minutes; with --small (or SMALL=1) 100 sites and one. Then `runs_concurrent` runs of three sites each at once
(fleet_runs.py): every one must finish; `queue_age_p95_s` is the age of the oldest waiting message, sampled
twice a second, `makespan_s` from the first launch to the last end (goal: 3 × runs × CPU seconds of one run ÷
cores). The agents run on the same machine: they are not counted, but take their share of its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks import fleet_runs
from benchmarks.processes import cpu_seconds
from contracts.bound_request import bind_request
from tests.support.installation import Installation
from tests.support.instances import HERE

WAIT_SECONDS = 25
GOALS = {"idle_cpu_cores": 0.5, "lease_p95_ms": 300.0, "queue_age_p95_s": 5.0}
SITES = """
import json
from contracts.kept_keys import signing_secret
from contracts.signing import SigningKey
from enclave_jobs.enclaves.models import Enclave
from federation.sites.models import Site
from enclave_jobs.runs.models import Run
from tests.jobs.cast import make_scene
scene, keys = make_scene(), {{}}
Run.objects.filter(pk=scene.run.pk).update(state="finished")  # nothing moves it on
Enclave.objects.update(state="stopped")
for number in range({count}):
    key, id = SigningKey.generate(), f"site-{{number}}"
    keys[id] = signing_secret(key).hex()
    Site.objects.create(id=id, name=id, state="active", public_key=key.public, runtime="development")
print(json.dumps([scene.run.pk, keys]))
"""
OFFER = """
import time
from enclave_jobs.jobs import leases
from enclave_jobs.jobs.models import JobKind
from enclave_jobs.runs.models import Run
run, sites = Run.objects.get(pk={run!r}), {{{site!r}: None}}
leases.offer(run, JobKind.SHARE, "bench-{number}", round=None, common={{"round": {number}}}, sites=sites)
print(time.time())
"""


@dataclass
class Agent:
    """One simulated site. `got` has when it read each job (Unix seconds)."""

    url: str
    site: str
    key: Ed25519PrivateKey
    client: httpx.AsyncClient
    got: list[float] = field(default_factory=list)
    failures: int = 0

    async def live(self) -> None:
        await asyncio.sleep(random.uniform(0, 5))
        while True:
            try:
                answer = await self._ask("lease", {"wait": WAIT_SECONDS})
                if answer.status_code == 200:
                    self.got.append(time.time())
                    job = answer.json()
                    told = {"lease": job["lease"], "code": "dataset.unknown", "facts": {}}
                    await self._ask(f"jobs/{job['id']}/failure", told)
                elif answer.status_code != 204:
                    self.failures += 1
                    await asyncio.sleep(2)
            except httpx.HTTPError:
                self.failures += 1
                await asyncio.sleep(1)

    async def _ask(self, path: str, body: Any) -> httpx.Response:
        target, content, now = f"/api/agent/v1/{path}", json.dumps(body).encode(), int(time.time())
        who = {"iss": self.site, "sub": self.site, "aud": "fedslice-coordinator"}
        once = {"iat": now, "exp": now + 30, "jti": secrets.token_hex(16)}
        claims = {**who, **once, **bind_request("POST", target, content)._asdict(), **HERE._asdict()}
        token = jwt.encode(claims, self.key, algorithm="EdDSA")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return await self.client.post(self.url + target, content=content, headers=headers)


async def measure(place: Installation, count: int, seconds: float, jobs: int) -> dict[str, float]:
    """The figures by their names."""
    run, keys = json.loads(place.shell(SITES.format(count=count)))
    limits = httpx.Limits(max_connections=count + 10, max_keepalive_connections=count + 10)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        agents = {
            site: Agent(place.url, site, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key)), client)
            for site, key in keys.items()
        }
        living = [asyncio.ensure_future(agent.live()) for agent in agents.values()]
        await asyncio.sleep(15)
        assert place.process is not None
        began, used = time.monotonic(), cpu_seconds(place.process.pid)
        await asyncio.sleep(seconds)
        cores = (cpu_seconds(place.process.pid) - used) / (time.monotonic() - began)
        times = []
        for number in range(2, jobs + 2):
            site = random.choice(list(agents))
            before = len(agents[site].got)
            offer = OFFER.format(run=run, number=number, site=site)
            offered = float(await asyncio.to_thread(place.shell, offer))
            while len(agents[site].got) == before:
                await asyncio.sleep(0.01)
            times.append(1000 * (agents[site].got[-1] - offered))
        for task in living:
            task.cancel()
    failures = sum(agent.failures for agent in agents.values())
    p95 = statistics.quantiles(times, n=20)[-1]
    return {"idle_cpu_cores": cores, "lease_p95_ms": p95, "lease_p50_ms": statistics.median(times),
            "failed_requests": failures}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", default=bool(os.environ.get("SMALL")))
    parser.add_argument("--only", choices=("idle", "runs"), help="leave the other part out")
    options = parser.parse_args()
    count, seconds, jobs, runs, rounds = (100, 30.0, 20, 6, 2) if options.small else (1000, 240.0, 100, 50, 3)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="fs-fleet-") as folder:
        os.environ.setdefault("FEDSLICE_TESTS_SHARED", folder)
        names = ("FEDSLICE_DATABASE", "FEDSLICE_REDIS")
        engines = {name: os.environ[name] for name in names if name in os.environ}
        if options.only != "runs":
            place = Installation(Path(folder, "idle"), engines=engines)
            place.folder.mkdir()
            place.start()
            try:
                figures |= asyncio.run(measure(place, count, seconds, jobs))
            finally:
                place.stop()
        if options.only != "idle":
            figures |= fleet_runs.measure(Path(folder, "runs"), runs, rounds)
            goal = 3 * runs * figures["run_cpu_s"] / (os.cpu_count() or 1)
            GOALS["makespan_s"] = round(goal, 1)
    config = {"sites": count, "runs": runs, "rounds": rounds, "load": round(os.getloadavg()[0], 1),
              "cores": os.cpu_count(),
              "engine": "postgresql" if "FEDSLICE_DATABASE" in engines else "sqlite"}  # fmt: skip
    for name, value in figures.items():
        unit = "1" if name == "runs_concurrent" else name.rpartition("_")[2]
        better = "higher" if name == "runs_concurrent" else "lower"
        print(json.dumps({"figure": name, "value": round(value, 3), "unit": unit, "goal": GOALS.get(name),
                          "better": better, "config": config}))  # fmt: skip
    for name, value in figures.items():
        sys.stdout.write(f"{name:>22}  {value:10.3f}\n")


if __name__ == "__main__":
    main()
