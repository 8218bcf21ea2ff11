"""`python manage.py stack`: the whole coordinator on one machine, in the foreground, until Ctrl-C."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from enclave_jobs.stack import running


class Command(BaseCommand):
    help = "Run the coordinator's processes (Redis, web, worker, beat, supervisor) together until Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        with running() as stack:
            self.stdout.write(f"FedSlice is up: {settings.PUBLIC_URL}")
            self.stdout.write(f"Logs: {stack.logs}. Stop with Ctrl-C.")
            self.stdout.flush()
            signal.signal(signal.SIGTERM, lambda *_: stack.stopping.set())
            try:
                stack.stopping.wait()
            except KeyboardInterrupt:
                self.stdout.write("Stopping …")
