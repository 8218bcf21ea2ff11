"""`python manage.py health PROCESS`: for probes of a container engine or of systemd."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from enclave_jobs import health
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    requires_system_checks: list[str] = []
    """Checks load every page and address, at more than a second of a core; probes come often."""

    help = marked("Exit 0 where this process of this machine lives and is ready, else 1 with what is wrong.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("process", choices=health.PROCESSES)

    def handle(self, *args: Any, process: str, **options: Any) -> None:
        fault = health.fault_of(process)
        if fault:
            raise CommandError(f"{process}: {fault}", returncode=1)
        self.stdout.write(_("%(process)s: well") % {"process": process})
