"""Add a witness's cosignature to the checkpoint that it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from contracts.log.note import parse_vkey
from contracts.refusal import Refusal
from federation.attestation import witnesses
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked("Import a checkpoint that a witness has cosigned; its line is added to our copy.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help=_("the signed note that the witness returned"))
        parser.add_argument("--witness", required=True, metavar="VKEY", help=_("the witness's public key"))

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            row = witnesses.take(options["file"].read_bytes(), parse_vkey(options["witness"]))
        except (Refusal, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(_("the checkpoint at %(n)s entries is cosigned") % {"n": row.size})
