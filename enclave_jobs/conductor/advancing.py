"""Move a run on by one step, whatever step that is, and decide what a refused step means for its run."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import transaction

from contracts.refusal import Refusal
from enclave_jobs.conductor import finishing, joining, moving, restarting, rounds, starting
from enclave_jobs.conductor.position import Position, position
from enclave_jobs.runs.models import Run, RunState

logger = logging.getLogger(__name__)


def advance(run_id: str) -> None:
    """The step of a run that can move; one that is over, or paused, stays as it is."""
    began = position(run_id)
    run = Run.objects.select_related("study").filter(pk=run_id).first()
    if run is not None:
        _guarded(run, began, lambda: _step(run))


def end(run_id: str) -> None:
    """After a run's end; the sweep asks again while the supervisor is away."""
    try:
        finishing.stop_enclaves(run_id)
    except Refusal as refusal:
        logger.info("the enclave of run %s is stopped later: %s", run_id, refusal.code)


def _step(run: Run) -> None:
    match run.state:
        case RunState.STARTING:
            starting.advance(run)
        case RunState.JOINING:
            restarting.require_alive(run)
            joining.advance(run)
        case RunState.RUNNING:
            rounds.advance(run)
        case RunState.FINISHING:
            finishing.advance(run)


def _guarded(run: Run, began: Position | None, step: Callable[[], None]) -> None:
    """`began` is where the run stood before the step read anything.

    1. A refusal that says the enclave is gone has it replaced.
    2. One that a retry can fix (the supervisor is away, a disk is full) leaves the run to the next sweep; a
       run that can go on elsewhere does not wait for its machine for ever.
    3. Any other ends the run, with its code.
    4. A step that was overtaken by another worker decides nothing.
    """
    try:
        step()
    except Refusal as refusal:
        if restarting.is_passing(refusal) and not restarting.is_loss(refusal):
            if not moving.consider(run, refusal, began):
                logger.info("run %s waits: %s", run.pk, refusal.code)
            return
        _judge(run, refusal, began)
    else:
        moving.went_well(run)


def _judge(run: Run, refusal: Refusal, began: Position | None) -> None:
    with transaction.atomic():
        Run.objects.select_for_update().filter(pk=run.pk).first()
        if position(run.pk) != began:
            logger.info("run %s has moved on; an overtaken step met %s", run.pk, refusal.code)
        elif restarting.is_loss(refusal):
            restarting.lost(run, refusal)
        else:
            finishing.fail(run, refusal)
