"""A management command whose words are in the language of the terminal at which it was typed."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import override

from translations.spoken import of_terminal


class SpokenCommand(BaseCommand):
    """The language is that of LC_ALL, LC_MESSAGES or LANG, as the agent's; a command that is called by code
    keeps the language of whoever calls it. Argparse's own words and Django's options stay English."""

    def run_from_argv(self, argv: list[str]) -> None:
        with override(of_terminal(os.environ)):
            super().run_from_argv(argv)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        self.help = _(self.help) if self.help else ""
        return super().create_parser(prog_name, subcommand, **kwargs)
