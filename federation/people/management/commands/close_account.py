"""Close somebody's account at the console, when no operator's account can be trusted to do it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from contracts.refusal import Refusal
from federation.people.services import close_at_console
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked(
        "Close an account: it is signed out everywhere with its next request. docs/incidents.md says when."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = close_at_console(options["email"])
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        said = _("the account %(email)s is closed; an operator opens it again under People")
        self.stdout.write(said % {"email": user.email})
