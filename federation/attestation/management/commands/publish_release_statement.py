"""Publish a release statement of FedSlice's makers: it goes into the log, and agents get it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from contracts.fingerprint import key_fingerprint
from contracts.refusal import Refusal
from contracts.release_statement import parse_statement
from error_catalogue import explain
from federation.attestation import statements


class Command(BaseCommand):
    help = "Publish a release statement (release/statement.json of a release). Agents verify it themselves."

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
        said = "published" if fresh else "published already"
        self.stdout.write(
            f"Release statement {signed.statement.sequence} by the key {key_fingerprint(signed.key)}: {said}."
        )
