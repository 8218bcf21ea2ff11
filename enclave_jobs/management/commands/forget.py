"""Forget what nothing can need any more, now instead of within the hour; `--dry-run` only says what."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from enclave_jobs import retention
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked("Remove what is not kept any more (docs/operations.md, What is kept).")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help=_("say what would go, and remove nothing"))

    def handle(self, *args: Any, **options: Any) -> None:
        dry = options["dry_run"]
        for due in retention.due() if dry else retention.forget():
            self.stdout.write(f"{due.rule:<12}{due.count:>9}  {due.bytes:>15} {_('bytes')}")
        self.stdout.write(_("Nothing was removed.") if dry else _("Removed."))
