"""Close somebody's account at the console, when no operator's account can be trusted to do it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from contracts.refusal import Refusal
from federation.people.services import close_at_console


class Command(BaseCommand):
    help = "Close an account: it is signed out everywhere with its next request. docs/incidents.md says when."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = close_at_console(options["email"])
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"the account {user.email} is closed; an operator opens it again under People")
