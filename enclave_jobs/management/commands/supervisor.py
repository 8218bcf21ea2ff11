"""`python manage.py supervisor`: the process that owns the server enclaves, until SIGTERM."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from contracts.refusal import Refusal
from enclave_jobs.supervisor import life
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked
from transparency_log.messages import warm_up_message_decoders


class Command(SpokenCommand):
    requires_system_checks: list[str] = []
    """Checks load every page and address, at more than a second of a core; this process serves none."""

    help = marked("Own the server enclaves of this machine and serve the conductor, until SIGTERM.")

    def handle(self, *args: Any, **options: Any) -> None:
        warm_up_message_decoders()
        try:
            life.run()
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
