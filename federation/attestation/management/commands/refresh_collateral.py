"""Fetch collateral now, from the configured service, for every kind of platform that is due."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from federation.attestation import pcs
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked("Fetch collateral from FEDSLICE_PCCS for every known kind of platform that is due.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.PCCS_URL:
            raise CommandError(_("FEDSLICE_PCCS is not set: there is no service to fetch from."))
        done = pcs.refresh()
        self.stdout.write(_("%(fetched)s fetched, %(failed)s failed") % done)
