"""Appraise evidence offline: a quote and its collateral, at a given time, with no database and no network."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from django.core.management.base import BaseCommand, CommandParser

from attestation.appraisal import Appraisal, Check
from attestation.certificates import iso
from attestation.event_log import read_events, require_replay
from attestation.offline import appraise_offline
from attestation.quote import parse, unpadded
from attestation.td_report import TdReport
from contracts.policy import CollateralFloor, Policy
from contracts.refusal import Refusal
from error_catalogue import explain
from federation.attestation.collateral_files import read_file
from federation.attestation.quote_text import text_instead

ACCEPTED, REFUSED, UNUSABLE = 0, 1, 2
MAX_FILE_BYTES = 16 * 1024 * 1024

MEANING = {
    "UpToDate": "firmware, microcode and configuration are current",
    "SWHardeningNeeded": "current; the software must bring its own defence against the advisories below",
    "ConfigurationNeeded": "current; a setting of the platform leaves it open to the advisories below",
    "ConfigurationAndSWHardeningNeeded": "current; settings and software must answer the advisories below",
    "OutOfDate": "firmware or microcode is behind: the advisories below apply",
    "OutOfDateConfigurationNeeded": "firmware or microcode is behind, and a setting must change",
    "TDRelaunchAdvised": "current, but the TD was started before it was: start it again",
    "TDRelaunchAdvisedConfigurationNeeded": "as above, and a setting of the platform must change",
    "Revoked": "must not be trusted",
}
SIGNS = {"pass": "pass", "fail": "FAIL", "not applicable": "n/a "}


class Command(BaseCommand):
    help = (
        "Appraise a quote offline. Exit 0: accepted as evidence; 1: refused; 2: the input is unusable. "
        "Without --policy the question is whether it is genuine evidence, under Intel's root, of a TEE that "
        "is not in debug mode. Nonce and binding need the party that asked: here they are not applicable."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--quote", required=True, type=Path, help="the raw quote")
        parser.add_argument("--collateral", required=True, type=Path, help="QuoteCollateralV3 as JSON")
        parser.add_argument("--at", required=True, type=int, help="the time to judge at, in Unix seconds")
        parser.add_argument("--policy", type=Path, help="a policy as JSON, as it stands in a run manifest")
        parser.add_argument("--event-log", type=Path, help="TDX: the boot event log (CCEL) to replay")
        parser.add_argument("--launches", type=Path, help="TDX: the launcher's event log")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of a page")

    def handle(self, *args: Any, **options: Any) -> None:
        quote = self._quote(options["quote"])
        collateral = self._read(options["collateral"])
        policy = self._policy(options["policy"]) if options["policy"] else None
        fields = self._fields(options["collateral"])
        launches = self._read(options["launches"]).decode("ascii", "replace") if options["launches"] else None
        appraisal = appraise_offline(quote, fields, options["at"], policy, launches)
        if options["event_log"]:
            self._replay(options["event_log"], quote)
        if options["json"]:
            self.stdout.write(json.dumps(_report(appraisal, quote, collateral), indent=2))
        else:
            self.stdout.write("\n".join(_page(appraisal, quote, collateral, policy)))
        sys.exit(ACCEPTED if appraisal.verdict == "accepted" else REFUSED)

    def _read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            self._unusable(f"{path} cannot be read: {error.strerror}")
        if len(data) > MAX_FILE_BYTES:
            self._unusable(f"{path} has more than {MAX_FILE_BYTES} bytes")
        return data

    def _quote(self, path: Path) -> bytes:
        """The raw quote. Text in its place is a common mistake, and is named as one."""
        data = self._read(path)
        if instead := text_instead(data, str(path)):
            self._unusable(f"{path} is {instead}")
        return data

    def _replay(self, path: Path, quote: bytes) -> None:
        """A log that does not explain the quote's registers ends here: refused. One that does is told on
        stderr, where it disturbs no JSON."""
        try:
            report = parse(unpadded(quote)).report
            if not isinstance(report, TdReport):
                self._unusable(f"{path} is given for an SGX quote, which has no event log")
            events = read_events(self._read(path))
            require_replay(events, report)
        except Refusal as refusal:
            self.stderr.write(f"REFUSED  {refusal}")
            sys.exit(REFUSED)
        self.stderr.write(f"Event log: {len(events)} events replay to RTMR0, RTMR1 and RTMR2 of the quote.")

    def _fields(self, path: Path) -> dict[str, str]:
        try:
            return read_file(path)
        except Refusal as refusal:
            self._unusable(str(refusal.facts["fault"]))

    def _policy(self, path: Path) -> Policy:
        try:
            return msgspec.json.decode(self._read(path), type=Policy)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._unusable(f"{path} is not a policy: {error}")

    def _unusable(self, why: str) -> NoReturn:
        self.stderr.write(f"Unusable input: {why}")
        sys.exit(UNUSABLE)


def _report(appraisal: Appraisal, quote: bytes, collateral: bytes) -> dict[str, Any]:
    report = msgspec.to_builtins(appraisal)
    if appraisal.code:
        explained = explain(appraisal.code, _facts(appraisal))
        report |= {"message": explained.message, "hint": explained.hint}
    return report | {"quote_file_sha256": _sha256(quote), "collateral_file_sha256": _sha256(collateral)}


def _page(appraisal: Appraisal, quote: bytes, collateral: bytes, policy: Policy | None) -> list[str]:
    lines = ["ACCEPTED as evidence" if appraisal.verdict == "accepted" else "REFUSED"]
    if appraisal.code:
        explained = explain(appraisal.code, _facts(appraisal))
        lines += [f"  why         {explained.message} [{appraisal.code}]", f"  next        {explained.hint}"]
    tee = appraisal.tee.upper() if appraisal.tee else "not established"
    root = "DEVELOPMENT ONLY - NOT HARDWARE" if appraisal.development else "Intel's root"
    lines += [
        f"  kind        {tee}, judged under {root}",
        f"  judged at   {iso(appraisal.at)} ({appraisal.at})",
    ]
    lines.append(f"  policy      {'as given' if policy else 'none: only whether the evidence is genuine'}")
    if appraisal.status:
        lines.append(f"  TCB status  {appraisal.status}: {MEANING[appraisal.status]}")
        lines.append(f"  advisories  {', '.join(appraisal.advisories) or 'none'}")
    lines += _floors(appraisal, policy)
    lines += [
        f"  measured    {appraisal.measurement or 'not established'}",
        f"  log name    quote {appraisal.quote_sha256}",
        f"              collateral {appraisal.collateral_sha256}",
        f"  SHA-256     quote file {_sha256(quote)}",
        f"              collateral file {_sha256(collateral)}",
        "",
        "Checks, in the order in which they ran:",
    ]
    for check in appraisal.checks:
        lines += _check_lines(check)
    return lines


def _floors(appraisal: Appraisal, policy: Policy | None) -> list[str]:
    """The numbers that this collateral would raise floors to, and those that the policy begins with."""
    if appraisal.fmspc is None:
        return []
    names = ("tcb_evaluation", "qe_evaluation", "root_ca_crl_number", "pck_crl_number")

    def numbers(of: Appraisal | CollateralFloor) -> str:
        given = tuple(getattr(of, name) for name in names)
        return f"for {of.fmspc} ({of.ca}): TCB evaluation %s, QE %s, CRL numbers %s (root), %s (PCK)" % given

    lines = [f"  collateral  {numbers(appraisal)}"]
    if policy is None:
        return lines
    for floor in policy.floors:
        dates = (getattr(floor, name) for name in floor.__struct_fields__ if name.endswith("_issued"))
        lines.append(f"  floor       {numbers(floor)}, issued from {', '.join(map(iso, dates))} on")
    return [*lines, f"  floor       for every platform: TCB evaluation {policy.minimum_tcb_evaluation}"]


def _check_lines(check: Check) -> list[str]:
    if check.outcome == "not applicable":
        return [f"  {SIGNS[check.outcome]} {check.name}: {check.found}"]
    head = f"  {SIGNS[check.outcome]} {check.name}" + (f" [{check.code}]" if check.code else "")
    return [
        head,
        f"         expected {check.expected or 'a form that can be read'}",
        f"         found    {check.found}",
    ]


def _facts(appraisal: Appraisal) -> dict[str, Any]:
    failed = next(check for check in appraisal.checks if check.outcome == "fail")
    return {"expected": failed.expected, "found": failed.found}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
