"""Publish a release statement of FedSlice's makers: it goes into the log, and agents get it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from contracts.fingerprint import key_fingerprint
from contracts.refusal import Refusal
from contracts.release_statement import parse_statement
from error_catalogue import explain
from federation.attestation import statements
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked(
        "Publish a release statement (release/statement.json of a release). Agents verify it themselves."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            data = options["file"].read_bytes()
            fresh = statements.publish(data)
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from error
        except Refusal as refusal:
            words = explain(refusal.code, refusal.facts)
            raise CommandError(f"{words.message} [{refusal.code}]\n{words.hint}") from refusal
        signed = parse_statement(data)
        said = (
            _("Release statement %(n)s by the key %(key)s: published.")
            if fresh
            else _("Release statement %(n)s by the key %(key)s: published already.")
        )
        self.stdout.write(said % {"n": signed.statement.sequence, "key": key_fingerprint(signed.key)})
