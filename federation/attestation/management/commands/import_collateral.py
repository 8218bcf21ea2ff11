"""Put a set of collateral from a file in use, where the coordinator has no way out to Intel's service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from contracts.refusal import Refusal
from error_catalogue import explain
from federation.attestation.collateral import import_file
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked(
        "Import collateral: QuoteCollateralV3 as JSON, as dcap-qvl and other tools write it. Signatures and "
        "dates are checked; a set that goes back behind the one in use is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            row = import_file(options["file"], int(time.time()))
        except Refusal as refusal:
            words = explain(refusal.code, refusal.facts)
            raise CommandError(f"{words.message} {words.hint} [{words.code}]") from refusal
        self.stdout.write(
            _("In use for %(platform)s, until %(until)s UTC")
            % {
                "platform": f"{row.tee.upper()} {row.fmspc} ({row.ca})",
                "until": f"{row.expires:%Y-%m-%d %H:%M}",
            }
        )
