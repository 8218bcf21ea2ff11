"""Write the transparency log, or a part of it, to a bundle for an auditor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from contracts.refusal import Refusal
from federation.attestation.bundles import export
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked(
        "Export log entries with evidence and proofs. The file names the platforms that took part (PPID)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--first", type=int, default=0, help=_("index of the first entry"))
        parser.add_argument("--last", type=int, help=_("index of the last entry; the newest if left out"))

    def handle(self, *args: Any, **options: Any) -> None:
        if options["file"].exists():
            raise CommandError(_("%(file)s exists already") % {"file": options["file"]})
        try:
            count = export(None, options["file"], first=options["first"], last=options["last"])
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        said = ngettext("%(n)s entry in %(file)s", "%(n)s entries in %(file)s", count)
        self.stdout.write(said % {"n": count, "file": options["file"]})
