"""`manage.py backup FILE`: database, sealed blobs and, for a certificate's owner, keys, while all runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from enclave_jobs import backup
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked("Write a backup of the coordinator into one file (docs/operations.md, Back up).")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--keys-to",
            type=Path,
            metavar="CERTIFICATE",
            help=_("with the keys, sealed to this RSA certificate"),
        )

    def handle(self, *args: Any, **options: Any) -> None:
        written = backup.write(options["file"], options["keys_to"])
        said = _("%(file)s: the database and %(n)s sealed files.")
        self.stdout.write(said % {"file": options["file"], "n": written["blobs"]})
        if not written["keys"]:
            self.stdout.write(
                _("The keys of the state folder are not in it: keep them apart, or use --keys-to.")
            )
