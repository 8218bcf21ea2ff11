"""Write the transparency log, or a part of it, to a bundle for an auditor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from contracts.refusal import Refusal
from federation.attestation.bundles import export


class Command(BaseCommand):
    help = "Export log entries with evidence and proofs. The file names the platforms that took part (PPID)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--first", type=int, default=0, help="index of the first entry")
        parser.add_argument("--last", type=int, help="index of the last entry; the newest if left out")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["file"].exists():
            raise CommandError(f"{options['file']} exists already")
        try:
            count = export(None, options["file"], first=options["first"], last=options["last"])
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"{count} entries in {options['file']}")
