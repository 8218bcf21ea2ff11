"""Django's `migrate`, which stops first where this version would end runs that another has begun."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.utils.translation import gettext as _

from contracts.refusal import Refusal
from enclave_jobs import upgrading
from error_catalogue import explain
from federation.spoken_command import SpokenCommand


class Command(SpokenCommand, migrate.Command):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--end-runs",
            action="store_true",
            help=_("end the runs that this version cannot go on with"),
        )

    def handle(self, *args: Any, **options: Any) -> None:
        ends = options.pop("end_runs", False)
        if options.get("plan") or options.get("check_unapplied"):
            super().handle(*args, **options)  # changes nothing
            return
        try:
            if not ends:
                upgrading.require_continued()
        except Refusal as refusal:
            words = explain(refusal.code, refusal.facts)
            raise CommandError(f"{words.message} {words.hint} [{refusal.code}]", returncode=1) from refusal
        super().handle(*args, **options)
        if ends:
            upgrading.end_runs()
