"""Measure this checkout's enclave programs and accept them, under the development root."""

from __future__ import annotations

import subprocess
from typing import Any, get_args

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from attestation.measurement import measure
from attestation.trust_domain import development_reference
from contracts.policy import Program, Reference, SgxReference
from contracts.refusal import Refusal
from federation.attestation.models import Root
from federation.attestation.references import add, in_force, measurement_of, suspend
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked(
        "Put the measurements of this checkout's enclave programs in force (development root only)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", default="measured from this checkout by the command line")
        parser.add_argument(
            "--replace", action="store_true", help=_("suspend the programs' other development measurements")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        commit = _commit()
        for program in get_args(Program):
            value = _value(program)
            try:
                add(None, value, root=Root.DEVELOPMENT, reason=options["reason"], source_commit=commit)
                said = _("added")
            except Refusal as refusal:
                if refusal.code != "reference.duplicate":
                    raise
                said = _("in force already")
            if options["replace"]:
                for old in in_force(Root.DEVELOPMENT, (program,)):
                    if old.measurement != measurement_of(value):
                        suspend(None, old, f"replaced: {options['reason']}")
            self.stdout.write(f"{program} {measurement_of(value)} {said}")


def _value(program: Program) -> Reference:
    """A client slice runs on a hospital's platform, the others on the server's."""
    if settings.DEVELOPMENT_TEE == "tdx" and program != "client_slice":
        return development_reference(program)
    return SgxReference(program=program, mrenclave=measure(program))


def _commit() -> str:
    """The commit of this checkout; empty where it is none."""
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607
        cwd=settings.BASE_DIR, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip()
