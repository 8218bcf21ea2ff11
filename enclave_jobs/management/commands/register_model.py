"""`python manage.py register_model SOURCE`: load a base model once, and offer it to studies if it works."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from contracts.model_proof import WAYS
from contracts.refusal import Refusal
from enclave_host.child_calls import ChildProgress
from enclave_jobs.base_models.registering import register
from error_catalogue import explain
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked("Load a base model once in a bounded process, pin its files, and offer it to studies.")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help=_("embedded:NAME, a local folder, or a Hugging Face id"))
        parser.add_argument(
            "--task",
            choices=("sequence-classification", "token-classification", "causal-lm"),
            default="sequence-classification",
        )
        parser.add_argument("--name", default="", help=_("how studies show it"))
        parser.add_argument(
            "--targets", nargs="*", default=(), help=_("modules to adapt instead of the usual")
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._said = ""
        try:
            model = register(
                options["source"],
                options["task"],
                name=options["name"],
                targets=tuple(options["targets"]),
                tell=self._tell,
            )
        except Refusal as refusal:
            words = explain(refusal.code, refusal.facts)
            raise CommandError(f"{words.message} {words.hint} [{words.code}]") from refusal
        self.stdout.write(
            _("%(name)s for %(task)s: %(files)s files, %(weights)s weights, reads %(tokens)s tokens")
            % {
                "name": model.name,
                "task": model.task,
                "files": len(model.files),
                "weights": model.parameters,
                "tokens": model.max_tokens,
            }
        )
        for way in WAYS:
            verdict = model.verdict(way)
            why = "" if verdict.proven else f": {explain(verdict.code, verdict.facts).message}"
            self.stdout.write(f"  {way:<18} {_('proven') if verdict.proven else _('not offered')}{why}")

    def _tell(self, progress: ChildProgress) -> None:
        """A line for each stage and each tenth of it."""
        done = f" {10 * progress.done // progress.of * 10} %" if progress.of else ""
        line = f"{progress.stage} {progress.way}{done}".strip()
        if line != self._said:
            self._said = line
            self.stderr.write(f"  … {line}")
