"""`python manage.py supervisor_certificate NAME`: let a machine prove itself to the coordinator's others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from enclave_jobs.supervisor import authority
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked(
        "Make a key and a certificate for one machine, signed by the coordinator's own authority, which "
        "is made at the first call. Run it again to renew; restart that machine's processes then."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help=_("the host name or address by which the others call this machine"))
        parser.add_argument(
            "--authority",
            type=Path,
            default=settings.STATE_DIR / "supervisor-authority",
            help=_("the authority's folder; its key belongs where no machine of the coordinator reads it"),
        )
        parser.add_argument(
            "--out",
            type=Path,
            help=_("where the three files go; default: supervisor-tls/NAME in the state folder"),
        )
        parser.add_argument("--if-missing", action="store_true", help=_("leave files that are there"))

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["out"] or settings.STATE_DIR / "supervisor-tls" / options["name"]
        if options["if_missing"] and (folder / "certificate.pem").exists():
            return
        authority.create_authority(options["authority"])
        authority.certify(options["authority"], options["name"], folder)
        self.stdout.write(
            _("%(folder)s holds authority.pem, certificate.pem and key.pem") % {"folder": folder}
        )
        self.stdout.write(
            _("Bring it to %(name)s and set FEDSLICE_SUPERVISOR_TLS to its place there.")
            % {"name": options["name"]}
        )
