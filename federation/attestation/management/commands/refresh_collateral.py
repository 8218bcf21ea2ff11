"""Fetch collateral now, from the configured service, for every kind of platform that is due."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from federation.attestation import pcs


class Command(BaseCommand):
    help = "Fetch collateral from FEDSLICE_PCCS for every known kind of platform that is due."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.PCCS_URL:
            raise CommandError("FEDSLICE_PCCS is not set: there is no service to fetch from.")
        done = pcs.refresh()
        self.stdout.write(f"{done['fetched']} fetched, {done['failed']} failed")
