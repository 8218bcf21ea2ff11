"""A run goes on at another machine of the pool, where its own stays away and its state opens anywhere.

What an enclave seals for itself opens on its machine alone, so most runs wait for theirs. Where nothing was
published yet there is no such state; where the hospitals hold shares of its key (a TEE without a sealing key,
TDX), they bring it back to any enclave that they have attested. A machine that the operator has taken out of
the pool is not waited for: what does not open elsewhere ends then, with `run.state_sealed_elsewhere`. The
enclaves that serve or release go by the same rule. A machine that is only cut off may have its enclave still:
two of one run are a fork, which the hospitals notice (docs/rollback.md).
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Final

from django.conf import settings
from django.db import transaction
from redis.exceptions import RedisError

from contracts.refusal import Refusal
from enclave_jobs.conductor import restarting, restoring
from enclave_jobs.conductor.position import Position, position
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.runs.models import Run
from enclave_jobs.supervisor import client, pool
from federation.frozen import manifest_of
from federation.redis_client import client as redis_client

logger = logging.getLogger(__name__)

AWAY: Final = "supervisor.unreachable"
AWAY_SECONDS: Final = 15
"""A supervisor that is started again is back sooner, and a run that stays loses less."""


def consider(run: Run, refusal: Refusal, began: Position | None) -> bool:
    """A step that began at this position met this refusal: whether the run was given to another machine for
    it. Looking takes seconds, and another worker may have done so meanwhile: its new enclave stays."""
    if not leaves(run, refusal):
        return False
    with transaction.atomic():
        Run.objects.select_for_update().filter(pk=run.pk).first()
        if position(run.pk) != began:
            return False
        restarting.lost(run, refusal)
    return True


def leaves(run: Run, refusal: Refusal) -> bool:
    """Whether what the run's last enclave was for shall go on at another machine for this refusal."""
    if refusal.code != AWAY or not settings.SUPERVISORS or not _away_for_long(run):
        return False
    enclave = Enclave.objects.filter(run=run).order_by("-epoch").first()
    try:
        if enclave is None or _answers(enclave.supervisor):
            return False
        if not pool.is_gone(enclave.supervisor) and not restoring.opens_anywhere(run):
            return False
        home = pool.place(manifest_of(run).runtime)
    except Refusal as other:
        logger.info("run %s stays for now: %s", run.pk, other.code)
        return False
    logger.warning("run %s leaves %s, which is away, for %s", run.pk, enclave.supervisor, home)
    went_well(run)
    return True


def went_well(run: Run) -> None:
    """A step was done, or its machine is another one: how long one is away counts from the next refusal."""
    if settings.SUPERVISORS:
        with suppress(RedisError, OSError):
            redis_client().delete(_key(run))


def _away_for_long(run: Run) -> bool:
    """Noted in Redis, for as long as it matters; one that forgets begins to count again."""
    try:
        redis = redis_client()
        now = time.time()
        redis.set(_key(run), now, nx=True, ex=3 * AWAY_SECONDS)
        since = redis.get(_key(run))
    except (RedisError, OSError):
        return False
    return since is not None and now - float(since) >= AWAY_SECONDS


def _key(run: Run) -> str:
    return f"fedslice:away:{run.pk}"


def _answers(address: str) -> bool:
    """Also one that refuses is there, with its enclaves: two of one run would be a fork."""
    try:
        client.room(address)
    except Refusal as refusal:
        return refusal.code != AWAY
    return True
