"""What Prometheus reads at /metrics: how the coordinator is, in numbers, without a name of a hospital or run.

Everything is asked of the database, Redis and the supervisors at the moment of the scrape, so that any web
process gives the same answer and none has to remember anything. What is away is a 0 (`fedslice_redis_up`,
`fedslice_supervisor_up`) and leaves its own numbers out; the rest is told all the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from celery import current_app
from django.db.models import Count, Min, Sum
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from contracts.refusal import Refusal
from enclave_jobs import operations
from enclave_jobs.blobs.models import Blob
from enclave_jobs.dispatch import SENT_AT
from enclave_jobs.jobs.models import Job, JobState
from enclave_jobs.queues import lists_of
from enclave_jobs.runs.models import Round, RoundState, Run, RunState
from enclave_jobs.supervisor import client, pool
from federation.attestation import log
from federation.attestation.models import Checkpoint, CollateralSet
from federation.redis_client import client as redis_client
from federation.sites.models import Site, SiteState

SILENT_SECONDS = 300.0
PHASES: Final = (RoundState.OPEN, RoundState.COLLECTING, RoundState.COUNTERSIGNING, RoundState.AGGREGATING)
Labels = tuple[tuple[str, str], ...]


@dataclass
class Gauge:
    """A family of numbers of one name."""

    name: str
    help: str
    values: dict[Labels, float] = field(default_factory=dict)

    def set(self, value: float | None, **labels: str) -> Gauge:
        """None: there is no such number now."""
        if value is not None:
            self.values[tuple(sorted(labels.items()))] = float(value)
        return self


def text() -> str:
    """All families in Prometheus' text format, version 0.0.4."""
    lines: list[str] = []
    for part in PARTS:
        for gauge in part():
            lines += [f"# HELP {gauge.name} {gauge.help}", f"# TYPE {gauge.name} gauge"]
            lines += [f"{gauge.name}{_said(labels)} {value!r}" for labels, value in gauge.values.items()]
    return "\n".join(lines) + "\n"


def _said(labels: Labels) -> str:
    """Label values are our own words: states, queues, programs, host:port."""
    quoted = (f'{name}="{json.dumps(value, ensure_ascii=False)[1:-1]}"' for name, value in labels)
    return "{" + ",".join(quoted) + "}" if labels else ""


def _runs() -> Iterator[Gauge]:
    now = timezone.now()
    runs = Gauge("fedslice_runs", "Runs by state.")
    found = dict(Run.objects.order_by().values_list("state").annotate(Count("pk")))
    for state in RunState.values:
        runs.set(found.get(state, 0), state=state)
    yield runs
    rounds = Gauge("fedslice_rounds", "Rounds by state.")
    found = dict(Round.objects.order_by().values_list("state").annotate(Count("pk")))
    for state in RoundState.values:
        rounds.set(found.get(state, 0), state=state)
    yield rounds
    phase = Gauge("fedslice_round_phase_seconds", "How long the oldest round of a phase has been in it.")
    live = Round.objects.filter(run__state=RunState.RUNNING, state__in=PHASES).order_by()
    for state, opened, closed in live.values_list("state").annotate(Min("opened_at"), Min("closed_at")):
        # A round that is countersigned or aggregated was closed when that began.
        phase.set((now - (closed or opened)).total_seconds(), phase=state)
    yield phase
    waited = Job.objects.filter(state__in=(JobState.WAITING, JobState.LEASED), run__state=RunState.RUNNING)
    sites = waited.order_by().values("site").distinct().count()
    yield Gauge("fedslice_waiting_sites", "Hospitals that a running run waits for.").set(sites)


def _sites() -> Iterator[Gauge]:
    now = timezone.now()
    sites = Gauge("fedslice_sites", "Hospitals by state.")
    found = dict(Site.objects.order_by().values_list("state").annotate(Count("pk")))
    for state in SiteState.values:
        sites.set(found.get(state, 0), state=state)
    yield sites
    since = now - timedelta(seconds=SILENT_SECONDS)
    silent = Site.objects.filter(state=SiteState.ACTIVE, last_seen__lt=since).count()
    yield Gauge("fedslice_silent_sites", "Active hospitals not heard of for five minutes.").set(silent)
    jobs = Gauge("fedslice_jobs", "Jobs of hospitals that are not over, by state.")
    live = Job.objects.filter(state__in=(JobState.WAITING, JobState.LEASED)).order_by()
    found = dict(live.values_list("state").annotate(Count("pk")))
    for state in (JobState.WAITING, JobState.LEASED):
        jobs.set(found.get(state, 0), state=state.value)
    yield jobs
    heard = live.filter(state=JobState.LEASED).aggregate(at=Min("heartbeat_at"))["at"]
    age = 0.0 if heard is None else (now - heard).total_seconds()
    yield Gauge("fedslice_lease_age_seconds", "Since the last word on the quietest leased job.").set(age)


def _messages() -> Iterator[Gauge]:
    up = Gauge("fedslice_redis_up", "Whether Redis answers.")
    length = Gauge("fedslice_queue_length", "Messages that wait, by queue.")
    age = Gauge("fedslice_queue_age_seconds", "How long the oldest message of a queue has waited.")
    sweep = Gauge("fedslice_sweep_age_seconds", "Since beat, broker and a worker have last swept together.")
    try:
        redis = redis_client()
        for queue in current_app.conf.task_queues or ():
            names = lists_of(queue.name)
            length.set(sum(int(redis.llen(name)) for name in names), queue=queue.name)
            oldest = [redis.lindex(name, -1) for name in names]
            age.set(max((_age(message) for message in oldest), default=0.0), queue=queue.name)
        swept = redis.get(operations.SWEEP_KEY)
        sweep.set(time.time() - float(swept) if swept else None)
        up.set(1)
    except (RedisError, OperationalError, OSError):
        up.set(0)
    yield from (up, length, age, sweep)


def _age(message: Any) -> float:
    """Of a waiting message, by the time that `dispatch` wrote on it; 0 of none."""
    try:
        sent = json.loads(message)["headers"][SENT_AT]
        return max(0.0, time.time() - float(sent))
    except (TypeError, ValueError, KeyError):
        return 0.0


def _enclaves() -> Iterator[Gauge]:
    count = Gauge("fedslice_enclaves", "Server enclaves by program.")
    memory = Gauge("fedslice_enclave_memory_bytes", "Resident memory of the largest enclave of a program.")
    peak = Gauge("fedslice_enclave_memory_peak_bytes", "The most that one of them has had.")
    up = Gauge("fedslice_supervisor_up", "Whether a supervisor answers, by its address.")
    for holder in pool.known():
        try:
            listed = client.listing(holder)
        except Refusal:
            up.set(0, supervisor=holder or "local")
            continue
        up.set(1, supervisor=holder or "local")
        for each in listed:
            if each.alive:
                labels = (("program", each.program),)
                count.values[labels] = count.values.get(labels, 0) + 1
                memory.values[labels] = max(memory.values.get(labels, 0), each.memory)
                peak.values[labels] = max(peak.values.get(labels, 0), each.peak)
    yield from (up, count, memory, peak)


def _log() -> Iterator[Gauge]:
    height, newest = log.size(), Checkpoint.objects.first()
    yield Gauge("fedslice_log_height", "Entries of the transparency log.").set(height)
    behind = height - (newest.size if newest else 0)
    yield Gauge("fedslice_log_unsigned_entries", "Entries that no checkpoint commits to yet.").set(behind)
    days = Gauge("fedslice_collateral_days_left", "Until the collateral in use expires that does so first.")
    newest_of: dict[tuple[str, ...], Any] = {}
    kinds = CollateralSet.objects.order_by("fetched_at")
    for root, tee, fmspc, ca, expires in kinds.values_list("root", "tee", "fmspc", "ca", "expires"):
        newest_of[root, tee, fmspc, ca] = expires
    for (root, *_), expires in newest_of.items():
        left = (expires - timezone.now()).total_seconds() / 86400
        days.set(min(left, days.values.get((("root", root),), left)), root=root)
    yield days


def _room() -> Iterator[Gauge]:
    free = Gauge("fedslice_disk_free_ratio", "Free share of a disk.")
    storage = operations.storage()
    for disk in storage["disks"]:
        free.set(1 - disk.bytes / disk.of if disk.of else None, disk=disk.name)
    yield free
    yield Gauge("fedslice_database_bytes", "Size of the database.").set(storage["database"])
    blobs = Gauge("fedslice_blob_bytes", "Sealed files by kind.")
    kinds: Mapping[str, int] = dict(
        Blob.objects.filter(complete=True).order_by().values_list("kind").annotate(Sum("bytes"))
    )
    for kind, size in kinds.items():
        blobs.set(size, kind=kind)
    yield blobs


PARTS: tuple[Callable[[], Iterator[Gauge]], ...] = (_runs, _sites, _messages, _enclaves, _log, _room)
