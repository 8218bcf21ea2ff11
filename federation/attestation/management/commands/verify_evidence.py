"""Appraise evidence offline: a quote and its collateral, at a given time, with no database and no network."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

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
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked

ACCEPTED, REFUSED, UNUSABLE = 0, 1, 2
MAX_FILE_BYTES = 16 * 1024 * 1024

MEANING = {
    "UpToDate": marked("firmware, microcode and configuration are current"),
    "SWHardeningNeeded": marked(
        "current; the software must bring its own defence against the advisories below"
    ),
    "ConfigurationNeeded": marked(
        "current; a setting of the platform leaves it open to the advisories below"
    ),
    "ConfigurationAndSWHardeningNeeded": marked(
        "current; settings and software must answer the advisories below"
    ),
    "OutOfDate": marked("firmware or microcode is behind: the advisories below apply"),
    "OutOfDateConfigurationNeeded": marked("firmware or microcode is behind, and a setting must change"),
    "TDRelaunchAdvised": marked("current, but the TD was started before it was: start it again"),
    "TDRelaunchAdvisedConfigurationNeeded": marked("as above, and a setting of the platform must change"),
    "Revoked": marked("must not be trusted"),
}
SIGNS = {"pass": marked("pass"), "fail": marked("FAIL"), "not applicable": marked("n/a ")}


class Command(SpokenCommand):
    help = marked(
        "Appraise a quote offline. Exit 0: accepted as evidence; 1: refused; 2: the input is unusable. "
        "Without --policy the question is whether it is genuine evidence, under Intel's root, of a TEE that "
        "is not in debug mode. Nonce and binding need the party that asked: here they are not applicable."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--quote", required=True, type=Path, help=_("the raw quote"))
        parser.add_argument("--collateral", required=True, type=Path, help=_("QuoteCollateralV3 as JSON"))
        parser.add_argument("--at", required=True, type=int, help=_("the time to judge at, in Unix seconds"))
        parser.add_argument("--policy", type=Path, help=_("a policy as JSON, as it stands in a run manifest"))
        parser.add_argument("--event-log", type=Path, help=_("TDX: the boot event log (CCEL) to replay"))
        parser.add_argument("--launches", type=Path, help=_("TDX: the launcher's event log"))
        parser.add_argument("--json", action="store_true", help=_("print one JSON object instead of a page"))

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
            self._unusable(_("%(path)s cannot be read: %(why)s") % {"path": path, "why": error.strerror})
        if len(data) > MAX_FILE_BYTES:
            self._unusable(_("%(path)s has more than %(n)s bytes") % {"path": path, "n": MAX_FILE_BYTES})
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
                self._unusable(
                    _("%(path)s is given for an SGX quote, which has no event log") % {"path": path}
                )
            events = read_events(self._read(path))
            require_replay(events, report)
        except Refusal as refusal:
            self.stderr.write(_("REFUSED  %(why)s") % {"why": refusal})
            sys.exit(REFUSED)
        said = _("Event log: %(n)s events replay to RTMR0, RTMR1 and RTMR2 of the quote.")
        self.stderr.write(said % {"n": len(events)})

    def _fields(self, path: Path) -> dict[str, str]:
        try:
            return read_file(path)
        except Refusal as refusal:
            self._unusable(str(refusal.facts["fault"]))

    def _policy(self, path: Path) -> Policy:
        try:
            return msgspec.json.decode(self._read(path), type=Policy)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._unusable(_("%(path)s is not a policy: %(why)s") % {"path": path, "why": error})

    def _unusable(self, why: str) -> NoReturn:
        self.stderr.write(_("Unusable input: %(why)s") % {"why": why})
        sys.exit(UNUSABLE)


def _report(appraisal: Appraisal, quote: bytes, collateral: bytes) -> dict[str, Any]:
    report = msgspec.to_builtins(appraisal)
    if appraisal.code:
        explained = explain(appraisal.code, _facts(appraisal))
        report |= {"message": explained.message, "hint": explained.hint}
    return report | {"quote_file_sha256": _sha256(quote), "collateral_file_sha256": _sha256(collateral)}


def _page(appraisal: Appraisal, quote: bytes, collateral: bytes, policy: Policy | None) -> list[str]:
    lines = [_("ACCEPTED as evidence") if appraisal.verdict == "accepted" else _("REFUSED")]
    if appraisal.code:
        explained = explain(appraisal.code, _facts(appraisal))
        lines += [
            _row(_("why"), f"{explained.message} [{appraisal.code}]"),
            _row(_("next"), explained.hint),
        ]
    tee = appraisal.tee.upper() if appraisal.tee else _("not established")
    root = _("DEVELOPMENT ONLY - NOT HARDWARE") if appraisal.development else _("Intel's root")
    lines += [
        _row(_("kind"), _("%(tee)s, judged under %(root)s") % {"tee": tee, "root": root}),
        _row(_("judged at"), f"{iso(appraisal.at)} ({appraisal.at})"),
        _row(_("policy"), _("as given") if policy else _("none: only whether the evidence is genuine")),
    ]
    if appraisal.status:
        lines.append(_row(_("TCB status"), f"{appraisal.status}: {_(MEANING[appraisal.status])}"))
        lines.append(_row(_("advisories"), ", ".join(appraisal.advisories) or _("none")))
    lines += _floors(appraisal, policy)
    lines += [
        _row(_("measured"), appraisal.measurement or _("not established")),
        _row(_("log name"), f"{_('quote')} {appraisal.quote_sha256}"),
        _row("", f"{_('collateral')} {appraisal.collateral_sha256}"),
        _row("SHA-256", f"{_('quote file')} {_sha256(quote)}"),
        _row("", f"{_('collateral file')} {_sha256(collateral)}"),
        "",
        _("Checks, in the order in which they ran:"),
    ]
    for check in appraisal.checks:
        lines += _check_lines(check)
    return lines


def _row(name: str, value: object) -> str:
    return f"  {name:<11} {value}"


def _floors(appraisal: Appraisal, policy: Policy | None) -> list[str]:
    """The numbers that this collateral would raise floors to, and those that the policy begins with."""
    if appraisal.fmspc is None:
        return []
    names = ("tcb_evaluation", "qe_evaluation", "root_ca_crl_number", "pck_crl_number")

    def numbers(of: Appraisal | CollateralFloor) -> str:
        given = {name: getattr(of, name) for name in names} | {"fmspc": of.fmspc, "ca": of.ca}
        return (
            _(
                "for %(fmspc)s (%(ca)s): TCB evaluation %(tcb_evaluation)s, QE %(qe_evaluation)s, CRL "
                "numbers %(root_ca_crl_number)s (root), %(pck_crl_number)s (PCK)"
            )
            % given
        )

    lines = [_row(_("collateral"), numbers(appraisal))]
    if policy is None:
        return lines
    for floor in policy.floors:
        dates = (getattr(floor, name) for name in floor.__struct_fields__ if name.endswith("_issued"))
        since = _("issued from %(dates)s on") % {"dates": ", ".join(map(iso, dates))}
        lines.append(_row(_("floor"), f"{numbers(floor)}, {since}"))
    every = _("for every platform: TCB evaluation %(n)s") % {"n": policy.minimum_tcb_evaluation}
    return [*lines, _row(_("floor"), every)]


def _check_lines(check: Check) -> list[str]:
    if check.outcome == "not applicable":
        return [f"  {_(SIGNS[check.outcome])} {check.name}: {check.found}"]
    head = f"  {_(SIGNS[check.outcome])} {check.name}" + (f" [{check.code}]" if check.code else "")
    expected = check.expected or _("a form that can be read")
    return [head, f"         {_('expected'):<8} {expected}", f"         {_('found'):<8} {check.found}"]


def _facts(appraisal: Appraisal) -> dict[str, Any]:
    failed = next(check for check in appraisal.checks if check.outcome == "fail")
    return {"expected": failed.expected, "found": failed.found}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
