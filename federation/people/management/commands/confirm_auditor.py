"""Confirm an auditor at the console, where no auditor is left who could."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from contracts.refusal import Refusal
from federation.people.auditors import confirm_at_console
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked(
        "Let an auditor's word count in reviews. Make sure first who it is; it stands in the audit trail."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = confirm_at_console(options["email"])
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(_("the word of %(email)s counts as an auditor's") % {"email": user.email})
