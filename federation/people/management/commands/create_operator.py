"""Make the first account of an installation."""

from __future__ import annotations

import sys
from getpass import getpass
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from contracts.refusal import Refusal
from federation.people import second_factor
from federation.people.models import Role
from federation.people.services import create_operator, invite


class Command(BaseCommand):
    help = "Make an operator account. The password is asked for, or read from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True)
        parser.add_argument(
            "--password-stdin", action="store_true", help="read the password from standard input"
        )
        parser.add_argument("--invite-lead", metavar="EMAIL", help="send the first lead an invitation, too")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["password_stdin"]:
            password = sys.stdin.readline().rstrip("\r\n")
        else:
            password = getpass("Password: ")
            if getpass("Password (again): ") != password:
                raise CommandError("the two passwords differ")
        try:
            user = create_operator(options["email"], password)
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"operator {user.email} made; sign in at {settings.PUBLIC_URL}")
        if options["invite_lead"]:
            try:
                invite(user, options["invite_lead"], Role.LEAD)
            except Refusal as refusal:
                raise CommandError(f"the operator is made, but nobody is invited: {refusal}") from refusal
            self.stdout.write(f"the invitation is on its way to {options['invite_lead']}")
        if second_factor.is_required(user):
            self.stdout.write(
                "At the first sign-in an authenticator app (TOTP) has to be set up before anything else "
                "opens, and recovery codes are shown once: have a phone and a place for them at hand. Make a "
                "second operator soon, by invitation: only another operator can reset a lost second factor. "
                "(FEDSLICE_SECOND_FACTOR=none switches this off, for demonstrations only.)"
            )
