"""Re-check an audit bundle: offline, with no database, and in plain words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandParser

from contracts.log.checkpoint import verify_checkpoint
from contracts.log.note import KeyType, NoteKey, parse_vkey
from contracts.refusal import Refusal
from error_catalogue import explain
from federation.attestation.log import kept_verifier_key
from transparency_log.bundle import read_header, verify_bundle
from transparency_log.report import BundleReport, Finding, Outcome

EXIT = {"verified": 0, "failed": 1, "incomplete": 3}
UNUSABLE = 2
MEANING = {
    "verified": "all that a bundle can show was shown.",
    "incomplete": "nothing contradicts it, but it cannot be verified with what is here.",
    "failed": "something contradicts what the runs in it promise.",
}
TITLES: dict[Outcome, str] = {
    "failed": "What failed",
    "missing": "What is missing",
    "established": "What this established",
    "not established": "What no bundle can establish",
}


class Command(BaseCommand):
    help = (
        "Verify an audit bundle. Exit 0: verified; 3: incomplete, something that is needed is not here; "
        "1: failed; 2: the input is unusable. Give --log-key, obtained elsewhere, to establish whose log it "
        "is; on the machine that keeps the log its own key is taken."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of a page")
        parser.add_argument("--log-key", help="the log's vkey, obtained elsewhere")
        parser.add_argument("--seen", type=Path, action="append", default=[], metavar="NOTE",
                            help="a checkpoint of this log that you kept; needs --log-key")  # fmt: skip
        parser.add_argument("--witness", action="append", default=[], metavar="VKEY",
                            help="a witness that must have cosigned the checkpoint")  # fmt: skip

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
        key, whose = _log_key(options)
        if options["seen"] and key is None:
            raise Refusal("bundle.unusable", fault="--seen needs --log-key")
        witnesses = [parse_vkey(text) for text in options["witness"]]
        if any(witness.type != KeyType.COSIGNATURE for witness in witnesses):
            raise Refusal("log.invalid_note", fault="a witness's key is not a cosignature key")
        seen = [verify_checkpoint(path.read_bytes(), key) for path in options["seen"] if key is not None]
        return verify_bundle(options["file"], log_key=key, seen=seen, witnesses=witnesses, whose=whose)

    def _fail(self, code: str, words: str, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"verdict": "unusable", "code": code, "message": words}))
        self.stderr.write(f"{words}\n{explain(code).hint}")
        sys.exit(UNUSABLE)


def _log_key(options: dict[str, Any]) -> tuple[NoteKey | None, str]:
    """The key to check by and whose it is. The bundle's word counts only where this machine's own log has
    that key."""
    if options["log_key"]:
        return parse_vkey(options["log_key"]), "that you gave"
    own = kept_verifier_key()
    if own is not None and read_header(options["file"]).log_key == own:
        return parse_vkey(own), "that this machine keeps"
    return None, ""


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
        "next": _hints(report.of("failed") + report.of("missing")),
    }


def _page(report: BundleReport) -> list[str]:
    lines = [f"Verdict: {report.verdict}: {MEANING[report.verdict]}"]
    if report.code:
        lines[0] += f" [{report.code}]"
    if report.development:
        lines.append("DEVELOPMENT ONLY: some of it rests on evidence that proves nothing about hardware.")
    lines += ["", *(f"  {claim:13} {verdict}" for claim, verdict in report.verdicts().items())]
    for outcome, title in TITLES.items():
        found = report.of(outcome)
        if found:
            lines += ["", f"{title}:", *(f"  - {finding.sentence}" for finding in found)]
            total = {"failed": report.failures, "missing": report.missing_count}.get(outcome, 0)
            if total > len(found):
                lines.append(f"  … and {total - len(found)} more")
    hints = _hints(report.of("failed") + report.of("missing"))
    return lines + (["", "What to do:", *(f"  - {hint}" for hint in hints)] if hints else [])


def _hints(findings: list[Finding]) -> list[str]:
    """What to do about them, each once."""
    return list(dict.fromkeys(explain(finding.code or "").hint for finding in findings))
