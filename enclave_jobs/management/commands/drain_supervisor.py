"""`python manage.py drain_supervisor HOST:PORT`: new runs go elsewhere until it can be stopped."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from contracts.refusal import Refusal
from enclave_jobs.supervisor import client, pool
from error_catalogue import explain
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked

LOOK_SECONDS = 2.0


class Command(SpokenCommand):
    help = marked("Send new runs to the other supervisors, and wait until this one holds no enclave.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", help=_("as FEDSLICE_SUPERVISORS names it"))
        parser.add_argument("--back", action="store_true", help=_("let new runs come to it again"))
        parser.add_argument("--no-wait", action="store_true", help=_("only say how many enclaves it holds"))

    def handle(self, *args: Any, address: str, back: bool, no_wait: bool, **options: Any) -> None:
        try:
            client.drain(address, not back)
            if back:
                self.stdout.write(_("%(address)s takes new runs again.") % {"address": address})
                return
            last = -1
            while (held := pool.drained(address)) and not no_wait:
                if held != last:
                    said = ngettext(
                        "%(address)s takes no new runs and holds %(n)s enclave still.",
                        "%(address)s takes no new runs and holds %(n)s enclaves still.",
                        held,
                    )
                    self.stdout.write(said % {"address": address, "n": held})
                last = held
                time.sleep(LOOK_SECONDS)
        except Refusal as refusal:
            words = explain(refusal.code, refusal.facts)
            raise CommandError(f"{words.message} {words.hint} [{refusal.code}]", returncode=1) from refusal
        if held:
            said = ngettext(
                "%(address)s holds %(n)s enclave; wait.", "%(address)s holds %(n)s enclaves; wait.", held
            )
            self.stdout.write(said % {"address": address, "n": held})
        else:
            self.stdout.write(_("%(address)s holds no enclave; it can be stopped.") % {"address": address})
