"""`python manage.py stack`: the whole coordinator on one machine, in the foreground, until Ctrl-C."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from enclave_jobs.stack import running
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked(
        "Run the coordinator's processes (Redis, web, worker, beat, supervisor) together until Ctrl-C."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        with running() as stack:
            self.stdout.write(_("FedSlice is up: %(url)s") % {"url": settings.PUBLIC_URL})
            self.stdout.write(_("Logs: %(folder)s. Stop with Ctrl-C.") % {"folder": stack.logs})
            self.stdout.flush()
            signal.signal(signal.SIGTERM, lambda *_: stack.stopping.set())
            try:
                stack.stopping.wait()
            except KeyboardInterrupt:
                self.stdout.write(_("Stopping …"))
