"""`manage.py restore FILE`: a backup, into an empty place: before `migrate`, before anything is started."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from enclave_jobs import backup


class Command(BaseCommand):
    requires_migrations_checks = False
    help = "Bring a backup back into an empty database and an empty blob folder."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--keys", type=Path, nargs=2, metavar=("CERTIFICATE", "KEY"),
                            help="with the keys, by their certificate and its key")  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        certificate, key = options["keys"] or (None, None)
        passphrase = None
        if key is not None and "ENCRYPTED" in key.read_text():
            passphrase = getpass.getpass(f"Passphrase of {key.name}: ").encode()
        restored = backup.restore(options["file"], certificate, key, passphrase)
        self.stdout.write(f"Restored the database and {restored['blobs']} sealed files.")
        if restored["missing"]:
            self.stdout.write(f"{restored['missing']} files were removed while it was made.")
        brought = ", ".join(restored["keys"])
        self.stdout.write(
            f"Keys: {brought}." if brought else "No keys: put those of the state folder back now."
        )
