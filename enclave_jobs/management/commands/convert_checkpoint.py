"""`python manage.py convert_checkpoint SOURCE NEW_FOLDER`: pickled weights to safetensors, in a sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from contracts.refusal import Refusal
from enclave_host.base_models import resolve_pickled
from enclave_host.child_calls import ChildProgress
from enclave_host.converting import convert
from error_catalogue import explain
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked(
        "Convert a model's pickled weights (pytorch_model.bin) to safetensors. They are read by a process "
        "that can open nothing, start nothing and reach nobody. The same input gives the same bytes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help=_("a local folder, or a Hugging Face id"))
        parser.add_argument("folder", type=Path, help=_("where the converted model goes; must not exist"))

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            converted = convert(
                resolve_pickled(options["source"]), options["folder"].resolve(), tell=self._tell
            )
        except Refusal as refusal:
            words = explain(refusal.code, refusal.facts)
            raise CommandError(f"{words.message} {words.hint} [{words.code}]") from refusal
        for name, sha in (*converted.sources.items(), *converted.made.items()):
            self.stdout.write(f"{sha}  {name}")
        self.stdout.write(
            _("Now: python manage.py register_model %(folder)s") % {"folder": options["folder"]}
        )

    def _tell(self, progress: ChildProgress) -> None:
        self.stderr.write(f"  … {progress.stage} {progress.file}")
