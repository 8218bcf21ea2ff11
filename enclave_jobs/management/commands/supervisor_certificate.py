"""`python manage.py supervisor_certificate NAME`: let a machine prove itself to the coordinator's others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from enclave_jobs.supervisor import authority


class Command(BaseCommand):
    help = (
        "Make a key and a certificate for one machine, signed by the coordinator's own authority, which "
        "is made at the first call. Run it again to renew; restart that machine's processes then."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the host name or address by which the others call this machine")
        parser.add_argument(
            "--authority",
            type=Path,
            default=settings.STATE_DIR / "supervisor-authority",
            help="the authority's folder; its key belongs where no machine of the coordinator reads it",
        )
        parser.add_argument(
            "--out",
            type=Path,
            help="where the three files go; default: supervisor-tls/NAME in the state folder",
        )
        parser.add_argument("--if-missing", action="store_true", help="leave files that are there")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["out"] or settings.STATE_DIR / "supervisor-tls" / options["name"]
        if options["if_missing"] and (folder / "certificate.pem").exists():
            return
        authority.create_authority(options["authority"])
        authority.certify(options["authority"], options["name"], folder)
        self.stdout.write(f"{folder} holds authority.pem, certificate.pem and key.pem")
        self.stdout.write(
            f"Bring it to {options['name']} and set FEDSLICE_SUPERVISOR_TLS to its place there."
        )
