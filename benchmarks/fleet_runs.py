"""Many runs at once, to their end: what `benchmarks/fleet.py` tells of `runs_concurrent`.

Real coordinator, real aggregators; the hospitals are simulated: they speak the agents' API, and their client
slices are keys of this process, admitted by development evidence, that seal random updates. So what is
measured is the coordinator's side alone. CPU is that of the stack and of the aggregators below it.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from redis import Redis

from attestation.development import create_platform, install_platform
from attestation.sources import open_source
from benchmarks.fleet_engines import Engines, OnPostgres
from benchmarks.kept_figures import KeptFigures
from benchmarks.processes import cpu_seconds
from contracts.endorsement import endorse
from contracts.kept_keys import signing_secret
from contracts.manifest import Lora, parse
from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT, receipt_hash
from contracts.round_kind import kind_of
from contracts.sealed.hpke import HpkeKey
from contracts.signing import SigningKey
from contracts.tables import ODDS, TENTHS
from enclave.programs.clock import Clock
from enclave.programs.contributions import Enclosed
from enclave.programs.identity import Identity
from enclave.programs.peer import Peer
from enclave.programs.sealing import seal_contribution
from enclave.training.metrics import Scores
from enclave_host.mailbox import HostMailbox
from tests.jobs.conftest import Consortium, ask
from tests.jobs.driver import Api, Hospital, make_rows
from tests.support import beginnings
from tests.support.installation import Installation

SITES_OF_A_RUN = 3
SCORES = Scores(8, 8, 4, 5.0, ((2, 2), (2, 2)))
TENTH, ODD = (0,) * (TENTHS - 1), (0,) * (ODDS - 1)
TABLES = msgspec.structs.replace(SCORES, bins=((8, *TENTH), (4, *TENTH), (0, *TENTH), *((4, *ODD),) * 4))
"""Of the test, where the manifest has tables of it told."""
WIDTH = 256
SAMPLE_SECONDS = 0.5
LATER = 6
QUEUES = ("cpu", "enclave", "tail", "models")
SENT_AT = "fedslice_sent_at"


@dataclass
class Simulated(Hospital):
    """A hospital whose client slice is a pair of keys."""

    identity: Identity | None = None
    aggregator: Peer | None = None
    collateral: Any = None

    def ensure_admitted(self, job: dict[str, Any]) -> None:
        """Be admitted by the run's present aggregator, whoever that is."""
        run = job["run"]
        if self.identity is None:
            reported = self.api.call("GET", f"runs/{run}/manifest")
            manifest = parse(reported["manifest"].encode())
            source = open_source("development", platform=self.platform, program="client_slice")
            keys = HpkeKey.generate(), SigningKey.generate()
            self.identity = Identity(
                "client_slice", source, manifest, manifest.hash, Clock(0), *keys, "0" * 64
            )
            self.collateral = self.api.call("GET", "collateral")["sgx"]
        if self.admitted_by == job["inputs"]["enclave"]:
            return
        claims = self.api.call("POST", f"runs/{run}/aggregator/evidence", {"nonce": "1" * 64})["claims"]
        self.aggregator = Peer(claims["hpke_key"], claims["signing_key"])
        nonce = self.api.call("POST", f"runs/{run}/aggregator/challenge", {})["nonce"]
        own = self.identity.evidence(nonce)
        evidence = msgspec.to_builtins(own) | {"collateral": self.collateral}
        shown = {"evidence": evidence, "endorsement": endorse(own.claims, self.api.key)}
        verdict = self.api.call("POST", f"runs/{run}/aggregator/admit", shown)
        assert verdict["verdict"] == "accepted", verdict
        self.admitted_by = job["inputs"]["enclave"]

    def train(self, job: dict[str, Any], op: str = "train") -> dict[str, Any]:
        """Fetch the last state, as an agent does, and hand in a random update."""
        self.ensure_admitted(job)
        assert self.identity is not None and self.aggregator is not None
        manifest, previous = self.identity.manifest, job["inputs"]["previous"]
        if previous is not None:
            self.api.download(previous["sha256"])
        last = NO_RECEIPT if previous is None else receipt_hash(parse_receipt(previous["receipt"]).receipt)
        trains, tells = kind_of(manifest, job["round"]) == "update", manifest.publishes_tables(job["round"])
        sealed = seal_contribution(
            self.identity,
            HostMailbox.create(self.folder / "mailbox"),
            site=self.site,
            round=job["round"],
            receiver=self.aggregator,
            enclosed=Enclosed(last, 12 if trains else 0, TABLES if tells else SCORES),
            state=_drawn(manifest.adapter) if trains else {},
        )
        path = self.folder / "mailbox" / "out" / sealed.sha256
        self.api.upload(path.read_bytes(), job["run"])
        path.unlink()
        return {"update": msgspec.to_builtins(sealed), "samples": 12 if trains else 0}


def _drawn(adapter: Any) -> dict[str, Any]:
    """LoRA pairs of two layers, about 64 kB."""
    assert isinstance(adapter, Lora)
    numbers, shapes = np.random.default_rng(), {"A": (adapter.rank, WIDTH), "B": (WIDTH, adapter.rank)}
    return {
        f"encoder.layer.{layer}.{target}.lora_{side}.weight": numbers.normal(size=shapes[side]).astype(
            np.float32
        )
        for layer in range(2)
        for target in adapter.targets
        for side in ("A", "B")
    }


@dataclass
class QueueAges:
    """How old the oldest waiting message was, sampled until `stopping`: of steps and sweeps, and of what may
    wait (mails, forgetting), which has the lower priority."""

    redis: Redis
    ages: dict[int, list[float]] = field(default_factory=lambda: {0: [], LATER: []})
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stopping.wait(SAMPLE_SECONDS):
            for step, ages in self.ages.items():
                names = [f"{name}\x06\x16{step}" if step else name for name in QUEUES]
                waiting = [self.redis.lindex(name, -1) for name in names]
                sent = [json.loads(each)["headers"].get(SENT_AT) for each in waiting if each]  # type: ignore[arg-type]
                ages.append(max((time.time() - at for at in sent if at), default=0.0))

    def p95(self, step: int) -> float:
        """Of the samples of one priority."""
        return statistics.quantiles(self.ages[step], n=20)[-1]


def measure(
    kept: KeptFigures, folder: Path, engines: Engines, count: int, rounds: int, seconds: float
) -> None:
    """One run alone, then `count` at once, for at most so many seconds."""
    cores = os.cpu_count() or 1
    with installed(folder, engines, count + 1) as (consortium, groups):
        alone = _together(consortium, groups[:1], rounds, 600)
        assert alone.finished, "the run alone did not finish"
        kept.tell("run_alone_s", alone.seconds, rounds=rounds)
        kept.tell("run_cpu_s", alone.cpu, rounds=rounds)
        with redis_of(consortium.installation, engines) as redis, sampled(QueueAges(redis)) as ages:
            all_ = _together(consortium, groups[1:], rounds, seconds)
        reported = {"runs": count, "rounds": rounds}
        kept.tell("runs_concurrent", all_.finished, count, **reported)
        kept.tell("queue_age_p95_s", ages.p95(0), 5, **reported)
        kept.tell("queue_age_max_s", max(ages.ages[0]), **reported)
        kept.tell("queue_age_later_p95_s", ages.p95(LATER), **reported)
        kept.tell("makespan_s", all_.seconds, round(3 * count * alone.cpu / cores, 1), **reported)
        kept.tell("run_concurrent_cpu_s", all_.cpu / count, **reported)
        assert all_.finished == count, f"{count - all_.finished} of {count} runs did not finish"


@contextmanager
def installed(
    folder: Path, engines: Engines, runs: int
) -> Iterator[tuple[Consortium, list[tuple[str, ...]]]]:
    """A coordinator that is up, and as many groups of three simulated hospitals."""
    model = beginnings.tiny_model()
    own = None if engines.settings else str(model)
    place = Installation(folder / "state", model=own, engines=engines.settings)
    place.folder.mkdir(parents=True)
    place.start()
    try:
        if engines.settings:
            place.manage("register_model", str(model))
        place.manage("register_measurements")
        consortium, groups = consortium_of(place, model, folder, runs)
        if engines.settings:
            consortium = OnPostgres(place, consortium.hospitals, model)
        yield consortium, groups
        consortium.stop()
    finally:
        place.stop()


def consortium_of(
    place: Installation, model: Path, folder: Path, runs: int, kind: type[Hospital] = Simulated
) -> tuple[Consortium, list[tuple[str, ...]]]:
    """As many groups of three hospitals of this kind, enrolled there."""
    groups = [tuple(f"run-{run}-site-{site}" for site in range(SITES_OF_A_RUN)) for run in range(runs)]
    names = [name for group in groups for name in group]
    keys = {name: SigningKey.generate() for name in names}
    requests = {name: create_platform(folder / name / "platform").decode() for name in names}
    secrets = {name: signing_secret(key).hex() for name, key in keys.items()}
    chains = ask(place, verb="hospitals", keys=secrets, requests=requests)
    hospitals: dict[str, Hospital] = {}
    for name in names:
        install_platform(folder / name / "platform", chains[name])
        rows = folder / name / "rows.jsonl"
        make_rows(rows, name, train=12)
        api = Api(place.url, name, keys[name])
        hospitals[name] = kind(api, folder / name, model, rows, folder / name / "platform")
    return Consortium(place, hospitals, model), groups


@dataclass(frozen=True)
class Together:
    """How many runs finished, in how many seconds from the first launch to the last end, and their CPU."""

    finished: int
    seconds: float
    cpu: float


def _together(consortium: Consortium, groups: list[tuple[str, ...]], rounds: int, seconds: float) -> Together:
    """Launch a run of each group with its agents, and wait for them all, so many seconds at most."""
    assert consortium.installation.process is not None
    stack = consortium.installation.process.pid
    began, used, runs = time.monotonic(), cpu_seconds(stack), list[str]()
    for group in groups:
        runs.append(consortium.launch(group, rounds=rounds, deadline_seconds=600))
        consortium.start()
    finished = 0
    for run in runs:
        try:
            ended = consortium.finished(run, seconds=max(1.0, began + seconds - time.monotonic()))
        except AssertionError as fault:
            sys.stderr.write(f"{fault}\n")
            continue
        finished += ended["state"] == "finished"
        if ended["state"] != "finished":
            sys.stderr.write(f"run {run}: {ended['error_code']} {ended['facts']}\n")
    return Together(finished, time.monotonic() - began, cpu_seconds(stack) - used)


@contextmanager
def redis_of(place: Installation, engines: Engines) -> Iterator[Redis]:
    """A client of the installation's Redis."""
    url = engines.settings.get("FEDSLICE_REDIS")
    with Redis.from_url(url) if url else Redis(unix_socket_path=str(socket_of(place))) as redis:
        yield redis


@contextmanager
def sampled(ages: QueueAges) -> Iterator[QueueAges]:
    """Sampled inside the block."""
    sampling = threading.Thread(target=ages.run, daemon=True)
    sampling.start()
    try:
        yield ages
    finally:
        ages.stopping.set()
        sampling.join()


def socket_of(place: Installation) -> Path:
    """Of its Redis."""
    code = "from django.conf import settings; print(settings.REDIS_SOCKET)"
    return Path(place.shell(code).splitlines()[-1])
