"""`manage.py backup FILE`: database, sealed blobs and, for a certificate's owner, keys, while all runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from enclave_jobs import backup


class Command(BaseCommand):
    help = "Write a backup of the coordinator into one file (docs/operations.md, Back up)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--keys-to",
            type=Path,
            metavar="CERTIFICATE",
            help="with the keys, sealed to this RSA certificate",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        written = backup.write(options["file"], options["keys_to"])
        self.stdout.write(f"{options['file']}: the database and {written['blobs']} sealed files.")
        if not written["keys"]:
            self.stdout.write(
                "The keys of the state folder are not in it: keep them apart, or use --keys-to."
            )
