"""`python manage.py drain_supervisor HOST:PORT`: new runs go elsewhere until it can be stopped."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from contracts.refusal import Refusal
from enclave_jobs.supervisor import client, pool
from error_catalogue import explain

LOOK_SECONDS = 2.0


class Command(BaseCommand):
    help = "Send new runs to the other supervisors, and wait until this one holds no enclave."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", help="as FEDSLICE_SUPERVISORS names it")
        parser.add_argument("--back", action="store_true", help="let new runs come to it again")
        parser.add_argument("--no-wait", action="store_true", help="only say how many enclaves it holds")

    def handle(self, *args: Any, address: str, back: bool, no_wait: bool, **options: Any) -> None:
        try:
            client.drain(address, not back)
            if back:
                self.stdout.write(f"{address} takes new runs again.")
                return
            last = -1
            while (held := pool.drained(address)) and not no_wait:
                if held != last:
                    self.stdout.write(f"{address} takes no new runs and holds {held} enclaves still.")
                last = held
                time.sleep(LOOK_SECONDS)
        except Refusal as refusal:
            words = explain(refusal.code, refusal.facts)
            raise CommandError(f"{words.message} {words.hint} [{refusal.code}]", returncode=1) from refusal
        self.stdout.write(f"{address} holds {held} enclaves; {'wait' if held else 'it can be stopped'}.")
