"""Re-check an audit bundle: offline, with no database, and in plain words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from contracts.refusal import Refusal
from error_catalogue import explain
from federation.attestation.bundle_checks import MEANING, check, next_steps
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked
from transparency_log.report import BundleReport, Outcome

EXIT = {"verified": 0, "failed": 1, "incomplete": 3}
UNUSABLE = 2
TITLES: dict[Outcome, str] = {
    "failed": marked("What failed"),
    "missing": marked("What is missing"),
    "established": marked("What this established"),
    "not established": marked("What this does not establish"),
}


class Command(SpokenCommand):
    help = marked(
        "Verify an audit bundle. Exit 0: verified; 3: incomplete, something that is needed is not here; "
        "1: failed; 2: the input is unusable. Give --log-key, obtained elsewhere, to establish whose log it "
        "is; on the machine that keeps the log its own key is taken."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--json", action="store_true", help=_("print one JSON object instead of a page"))
        parser.add_argument("--log-key", help=_("the log's verifier key (name+id+key), obtained elsewhere"))
        parser.add_argument("--seen", type=Path, action="append", default=[], metavar="NOTE",
                            help=_("a checkpoint of this log that you kept; needs --log-key"))  # fmt: skip
        parser.add_argument("--witness", action="append", default=[], metavar="VKEY",
                            help=_("a witness that must have cosigned the checkpoint"))  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = self._verify(options)
        except (Refusal, OSError) as error:
            code = error.code if isinstance(error, Refusal) else "bundle.unusable"
            self._fail(code, str(error), as_json=options["json"])
        if options["json"]:
            self.stdout.write(json.dumps(_whole(report), indent=2))
        else:
            self.stdout.write("\n".join(_page(report)))
        sys.exit(EXIT[report.verdict])

    def _verify(self, options: dict[str, Any]) -> BundleReport:
        if any("+" not in key for key in (options["log_key"] or "+", *options["witness"])):
            raise Refusal("bundle.no_vkey")
        return check(
            options["file"],
            log_key=options["log_key"],
            seen=[path.read_bytes() for path in options["seen"]],
            witnesses=options["witness"],
        )

    def _fail(self, code: str, words: str, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"verdict": "unusable", "code": code, "message": words}))
        self.stderr.write(f"{words}\n{explain(code).hint}")
        sys.exit(UNUSABLE)


def _whole(report: BundleReport) -> dict[str, Any]:
    verdicts = report.verdicts()
    claims = {
        claim: {
            "verdict": verdict,
            "failed": report.words("failed", claim),
            "missing": report.words("missing", claim),
            "established": report.words("established", claim),
        }
        for claim, verdict in verdicts.items()
    }
    return {
        "verdict": report.verdict,
        "code": report.code,
        "claims": claims,
        **msgspec.to_builtins(report),
        "next": next_steps(report.of("failed") + report.of("missing")),
    }


def _page(report: BundleReport) -> list[str]:
    lines = [_("Verdict: %(verdict)s.") % {"verdict": report.verdict} + " " + _(MEANING[report.verdict])]
    if report.code:
        lines[0] += f" [{report.code}]"
    if report.development:
        lines.append(_("DEVELOPMENT ONLY: some of it rests on evidence that proves nothing about hardware."))
    lines += ["", *(f"  {claim:13} {verdict}" for claim, verdict in report.verdicts().items())]
    for outcome, title in TITLES.items():
        found = report.of(outcome)
        if found:
            lines += ["", f"{_(title)}:", *(f"  - {finding.sentence}" for finding in found)]
            total = {"failed": report.failures, "missing": report.missing_count}.get(outcome, 0)
            if total > len(found):
                lines.append(_("  … and %(n)s more") % {"n": total - len(found)})
    hints = next_steps(report.of("failed") + report.of("missing"))
    return lines + (["", _("What to do:"), *(f"  - {hint}" for hint in hints)] if hints else [])
