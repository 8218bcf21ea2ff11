"""Make the first account of an installation."""

from __future__ import annotations

import sys
from getpass import getpass
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from contracts.refusal import Refusal
from federation.people import second_factor
from federation.people.models import Role
from federation.people.services import create_operator, invite
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked("Make an operator account. The password is asked for, or read from standard input.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True)
        parser.add_argument(
            "--password-stdin", action="store_true", help=_("read the password from standard input")
        )
        parser.add_argument(
            "--invite-lead", metavar="EMAIL", help=_("send the first lead an invitation, too")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["password_stdin"]:
            password = sys.stdin.readline().rstrip("\r\n")
        else:
            password = getpass(_("Password: "))
            if getpass(_("Password (again): ")) != password:
                raise CommandError(_("the two passwords differ"))
        try:
            user = create_operator(options["email"], password)
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        said = _("operator %(email)s made; sign in at %(url)s")
        self.stdout.write(said % {"email": user.email, "url": settings.PUBLIC_URL})
        if options["invite_lead"]:
            try:
                invite(user, options["invite_lead"], Role.LEAD, language=get_language())
            except Refusal as refusal:
                said = _("the operator is made, but nobody is invited: %(why)s") % {"why": refusal}
                raise CommandError(said) from refusal
            said = _("the invitation is on its way to %(email)s")
            self.stdout.write(said % {"email": options["invite_lead"]})
        if second_factor.is_required(user):
            self.stdout.write(
                _(
                    "At the first sign-in an authenticator app (TOTP) has to be set up before anything else "
                    "opens, and recovery codes are shown once: have a phone and a place for them at hand. "
                    "Make a second operator soon, by invitation: only another operator can reset a lost "
                    "second factor. (FEDSLICE_SECOND_FACTOR=none switches this off, for demonstrations only.)"
                )
            )
