"""Many hospitals that wait: what they cost, and how soon work reaches one. Called by `benchmarks/fleet.py`.

The agents are simulated, but speak the agents' API: signed tokens, kept connections, requests that wait, the
pauses of the real agent's back-off. They run in this process, whose CPU is told apart.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import ssl
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.fleet_engines import Engines
from benchmarks.kept_figures import KeptFigures
from benchmarks.processes import cpu_seconds
from contracts.bound_request import bind_request
from site_agent.backoff import pause, retry_after
from site_agent.line import LONGEST_WAIT
from tests.support.installation import Installation
from tests.support.instances import HERE

JOIN_SECONDS = LONGEST_WAIT
"""The agents come over so long a time, as hospitals that were not switched on by one hand."""
ANSWER_SECONDS = 30.0
JOBS_SECONDS, LEAST_JOBS = 300.0, 8
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
    """One simulated site. `got` has when it read each job (Unix seconds); `answers` counts by status."""

    url: str
    site: str
    key: Ed25519PrivateKey
    client: httpx.AsyncClient
    answers: Counter[str]
    got: list[float] = field(default_factory=list)
    tries: int = 0

    async def live(self) -> None:
        await asyncio.sleep(random.uniform(0, JOIN_SECONDS))
        while True:
            seconds: float | None = None
            try:
                answer = await self._ask("lease", {"wait": LONGEST_WAIT})
                self.answers[str(answer.status_code)] += 1
                if answer.status_code == 200:
                    self.got.append(time.time())
                    job = answer.json()
                    reported = {"lease": job["lease"], "code": "dataset.unknown", "facts": {}}
                    await self._ask(f"jobs/{job['id']}/failure", reported)
                seconds = retry_after(answer.headers.get("retry-after"))
                self.tries = 0 if answer.status_code in (200, 204) else self.tries + 1
            except httpx.HTTPError as error:
                self.answers[type(error).__name__] += 1
                self.tries += 1
            if self.tries or seconds is not None:
                await asyncio.sleep(pause(max(0, self.tries - 1), seconds))

    async def _ask(self, path: str, body: Any) -> httpx.Response:
        target, content, now = f"/api/agent/v1/{path}", json.dumps(body).encode(), int(time.time())
        who = {"iss": self.site, "sub": self.site, "aud": "fedslice-coordinator"}
        once = {"iat": now, "exp": now + 30, "jti": secrets.token_hex(16)}
        claims = {**who, **once, **bind_request("POST", target, content)._asdict(), **HERE._asdict()}
        token = jwt.encode(claims, self.key, algorithm="EdDSA")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return await self.client.post(self.url + target, content=content, headers=headers)


def measure(
    kept: KeptFigures, place: Installation, engines: Engines, count: int, seconds: float, jobs: int
) -> None:
    """Tells `idle_cpu_cores`, `lease_p95_ms` and what stands beside them."""
    asyncio.run(_measure(kept, place, engines, count, seconds, jobs))


async def _measure(
    kept: KeptFigures, place: Installation, engines: Engines, count: int, seconds: float, jobs: int
) -> None:
    run, keys = json.loads(place.shell(SITES.format(count=count)))
    answers, plain = Counter[str](), ssl.create_default_context()
    # A client each: one pool of a thousand connections is searched through at each request.
    agents = {
        site: Agent(
            place.url, site, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key)),
            httpx.AsyncClient(timeout=120, verify=plain), answers,
        )
        for site, key in keys.items()
    }  # fmt: skip
    living = [asyncio.ensure_future(agent.live()) for agent in agents.values()]
    try:
        await asyncio.sleep(2 * JOIN_SECONDS)
        answers.clear()
        before, own, began = cpu_of(place, engines), time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        lasted = time.monotonic() - began
        cores = {name: (used - before[name]) / lasted for name, used in cpu_of(place, engines).items()}
        parts = {name: round(value, 3) for name, value in cores.items()}
        asked = sum(answers.values())
        reported = {"sites": count, "by_process": parts, "requests_a_second": round(asked / lasted, 1)}
        kept.tell("idle_cpu_cores", sum(cores.values()), 0.5, **reported)
        kept.tell("agents_cpu_cores", (time.process_time() - own) / lasted, sites=count)
        kept.tell(
            "failed_requests", asked - answers["200"] - answers["204"], 0, sites=count, by=dict(answers)
        )
        times = await _times(place, agents, run, jobs)
        kept.tell("lease_p95_ms", statistics.quantiles(times, n=20)[-1], 300, sites=count, jobs=len(times))
        kept.tell("lease_p50_ms", statistics.median(times), sites=count, jobs=len(times))
    finally:
        for task in living:
            task.cancel()
        await asyncio.gather(*living, return_exceptions=True)
        for agent in agents.values():
            await agent.client.aclose()


async def _times(place: Installation, agents: dict[str, Agent], run: str, jobs: int) -> list[float]:
    """Milliseconds from the commit that offers a job until its site has read it. On a machine that has no
    time to give, fewer jobs than wanted."""
    times: list[float] = []
    over = time.monotonic() + JOBS_SECONDS
    for number in range(2, jobs + 2):
        if time.monotonic() > over and len(times) >= LEAST_JOBS:
            break
        site = random.choice(list(agents))
        before = len(agents[site].got)
        offer = OFFER.format(run=run, number=number, site=site)
        offered = float(await asyncio.to_thread(place.shell, offer))
        ends = time.time() + ANSWER_SECONDS
        while len(agents[site].got) == before and time.time() < ends:
            await asyncio.sleep(0.005)
        read = agents[site].got[-1] if len(agents[site].got) > before else time.time()
        times.append(1000 * max(0.0, read - offered))
    return times


def cpu_of(place: Installation, engines: Engines) -> dict[str, float]:
    """CPU seconds of everything that is the coordinator's, by process."""
    assert place.process is not None
    web = sum(map(cpu_seconds, place.pids("uvicorn")))
    stack = cpu_seconds(place.process.pid)
    return {"web": web, "others": stack - web} | {
        name: cpu_seconds(pid) for name, pid in engines.pids.items()
    }
