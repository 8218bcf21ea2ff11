"""`manage.py restore FILE`: a backup, into an empty place: before `migrate`, before anything is started."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from enclave_jobs import backup
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    requires_migrations_checks = False
    help = marked("Bring a backup back into an empty database and an empty blob folder.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--keys", type=Path, nargs=2, metavar=("CERTIFICATE", "KEY"),
                            help=_("with the keys, by their certificate and its key"))  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        certificate, key = options["keys"] or (None, None)
        passphrase = None
        if key is not None and "ENCRYPTED" in key.read_text():
            passphrase = getpass.getpass(_("Passphrase of %(key)s: ") % {"key": key.name}).encode()
        restored = backup.restore(options["file"], certificate, key, passphrase)
        said = _("Restored the database and %(n)s sealed files.")
        self.stdout.write(said % {"n": restored["blobs"]})
        if restored["missing"]:
            said = ngettext(
                "%(n)s file was removed while it was made.",
                "%(n)s files were removed while it was made.",
                restored["missing"],
            )
            self.stdout.write(said % {"n": restored["missing"]})
        brought = ", ".join(restored["keys"])
        self.stdout.write(
            _("Keys: %(names)s.") % {"names": brought}
            if brought
            else _("No keys: put those of the state folder back now.")
        )
