"""Confirm an auditor at the console, where no auditor is left who could."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from contracts.refusal import Refusal
from federation.people.auditors import confirm_at_console


class Command(BaseCommand):
    help = "Let an auditor's word count in reviews. Make sure first who it is; it stands in the audit trail."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = confirm_at_console(options["email"])
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"the word of {user.email} counts as an auditor's")
