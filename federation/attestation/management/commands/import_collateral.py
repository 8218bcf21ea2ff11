"""Put a set of collateral from a file in use, where the coordinator has no way out to Intel's service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from contracts.refusal import Refusal
from error_catalogue import explain
from federation.attestation.collateral import import_file


class Command(BaseCommand):
    help = (
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
            f"In use for {row.tee.upper()} {row.fmspc} ({row.ca}), until {row.expires:%Y-%m-%d %H:%M} UTC"
        )
