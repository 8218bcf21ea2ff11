"""`python manage.py register_model SOURCE`: offer a base model to studies, pinned by its files' hashes."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from contracts.refusal import Refusal
from enclave_jobs.base_models import register


class Command(BaseCommand):
    help = "Pin a base model's files and offer it to studies."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help="embedded:all-MiniLM-L6-v2, a local folder, or a Hugging Face id")
        parser.add_argument(
            "--task",
            choices=("sequence-classification", "causal-lm"),
            default="sequence-classification",
        )
        parser.add_argument("--name", default="", help="how studies show it")
        parser.add_argument("--targets", nargs="*", help="modules to adapt; peft's for the architecture")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            model = register(
                options["source"], options["task"], name=options["name"], targets=options["targets"]
            )
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(
            f"{model.name} for {model.task}: {len(model.files)} files, {model.parameters} weights"
        )
