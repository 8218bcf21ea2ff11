"""Celery's queues by capability, and its clock.

`cpu` is for everything short; `enclave` for steps that talk to the supervisor (a worker for it must reach the
supervisor and the blob folder); `tail` for the tail of Method 2; `models` for loading base models, which
takes memory and minutes. A worker that names no queue serves all.

Steps of runs and the sweep come before what can wait: forgetting, mails, collateral.
"""

from __future__ import annotations

from celery import Celery, current_app
from kombu import Queue

CPU, ENCLAVE, TAIL, MODELS = "cpu", "enclave", "tail", "models"
LATER = 6
"""The priority of what can wait; all else has 0, the highest (CELERY_BROKER_TRANSPORT_OPTIONS)."""
SWEEP_SECONDS = 2.0
UPKEEP_SECONDS = 600.0
FORGET_SECONDS = 3600.0
COLLATERAL_SECONDS = 300.0
NOTICE_SECONDS = 10.0


def lists_of(queue: str) -> list[str]:
    """Redis' lists of a queue: kombu keeps one for each priority. The oldest message is the last of its
    list."""
    steps = current_app.conf.broker_transport_options.get("priority_steps", [0])
    return [queue if step == 0 else f"{queue}\x06\x16{step}" for step in steps]


def configure(app: Celery) -> None:
    """Set queues, routes and the beat schedule on the application. Calling it again changes nothing."""
    app.conf.update(
        task_default_queue=CPU,
        task_queues=[Queue(name) for name in (CPU, ENCLAVE, TAIL, MODELS)],
        task_routes=("enclave_jobs.routing.route",),
        beat_schedule={
            "sweep": {
                "task": "enclave_jobs.sweep",
                "schedule": SWEEP_SECONDS,
                # Where no worker runs, sweeps do not pile up.
                "options": {"expires": 5 * SWEEP_SECONDS},
            },
            "upkeep": {
                "task": "enclave_jobs.upkeep",
                "schedule": UPKEEP_SECONDS,
                "options": {"expires": UPKEEP_SECONDS, "priority": LATER},
            },
            "forget": {
                "task": "enclave_jobs.forget",
                "schedule": FORGET_SECONDS,
                "options": {"expires": FORGET_SECONDS, "priority": LATER},
            },
            "notices": {
                "task": "enclave_jobs.notify",
                "schedule": NOTICE_SECONDS,
                "options": {"expires": NOTICE_SECONDS, "priority": LATER},
            },
            "collateral": {
                "task": "enclave_jobs.refresh_collateral",
                "schedule": COLLATERAL_SECONDS,
                "options": {"expires": COLLATERAL_SECONDS, "priority": LATER},
            },
        },
    )
