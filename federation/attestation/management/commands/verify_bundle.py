"""Re-check an audit bundle: offline, with no database, and in plain words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandParser

from contracts.log.checkpoint import verify_checkpoint
from contracts.log.note import KeyType, parse_vkey
from contracts.refusal import Refusal
from error_catalogue import explain
from transparency_log.bundle import verify_bundle
from transparency_log.report import BundleReport

VERIFIED, REFUSED, UNUSABLE = 0, 1, 2


class Command(BaseCommand):
    help = (
        "Verify an audit bundle. Exit 0: nothing failed; 1: something failed; 2: the input is unusable. "
        "Give --log-key to establish whose log it is."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of a page")
        parser.add_argument("--log-key", help="the log's vkey, obtained elsewhere")
        parser.add_argument("--seen", type=Path, action="append", default=[], metavar="NOTE",
                            help="a checkpoint of this log that you kept; needs --log-key")  # fmt: skip
        parser.add_argument("--witness", action="append", default=[], metavar="VKEY",
                            help="a witness whose cosignature you want to see")  # fmt: skip

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
        sys.exit(VERIFIED if report.verdict == "verified" else REFUSED)

    def _verify(self, options: dict[str, Any]) -> BundleReport:
        key = parse_vkey(options["log_key"]) if options["log_key"] else None
        if options["seen"] and key is None:
            raise Refusal("bundle.unusable", fault="--seen needs --log-key")
        witnesses = [parse_vkey(text) for text in options["witness"]]
        if any(witness.type != KeyType.COSIGNATURE for witness in witnesses):
            raise Refusal("log.invalid_note", fault="a witness's key is not a cosignature key")
        seen = [verify_checkpoint(path.read_bytes(), key) for path in options["seen"] if key is not None]
        return verify_bundle(options["file"], log_key=key, seen=seen, witnesses=witnesses)

    def _fail(self, code: str, words: str, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"verdict": "unusable", "code": code, "message": words}))
        self.stderr.write(f"{words}\n{explain(code).hint}")
        sys.exit(UNUSABLE)


def _whole(report: BundleReport) -> dict[str, Any]:
    return {"verdict": report.verdict, "code": report.code, **msgspec.to_builtins(report)}


def _page(report: BundleReport) -> list[str]:
    lines = [f"Verdict: {report.verdict}" + (f" [{report.code}]" if report.code else "")]
    if report.development:
        lines.append("DEVELOPMENT ONLY: some of it rests on evidence that proves nothing about hardware.")
    titles = {
        "failed": "What failed:",
        "established": "What this established:",
        "not established": "What it could not establish:",
    }
    for outcome, title in titles.items():
        words = report.words(outcome)  # type: ignore[arg-type]
        if words:
            lines += ["", title, *(f"  - {sentence}" for sentence in words)]
    if report.failures > len(report.words("failed")):
        lines.append(f"  … and {report.failures - len(report.words('failed'))} more failures")
    return lines
