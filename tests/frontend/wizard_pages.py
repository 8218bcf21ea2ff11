"""The wizard's pages: their addresses, their texts, what a form sends."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from federation.studies.models import Study
from tests.frontend.page_reader import unlinked

TRAINING = {
    "rounds": 2, "local_epochs": 1, "batch_size": 8, "learning_rate": "0.001", "seed": 0,
    "schedule": "constant", "warmup": "0", "patience": 0, "rule": "fedavg",
    "server_optimizer": "none", "server_beta1": "0.9", "server_beta2": "0.99", "server_tau": "0.001",
    "proximal": "0", "noise": 1, "delta": "0.00001",
    "gradient_clip": 1, "deadline_seconds": 60, "release": "nothing",
    "runtime": "development", "privacy": "none", "accepted_statuses": ["UpToDate"], "cells": 5,
}  # fmt: skip
"""What the form of training sends if nobody changes anything."""


def at(study: Study, step: str) -> str:
    return reverse("study-step", args=[study.pk, step])


def text(response: Any) -> str:
    return unlinked(response.content.decode())
