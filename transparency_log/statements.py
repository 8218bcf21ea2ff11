"""What the entries of a bundle say, judged again in the order of the log.

1. every appraisal: over the raw quote and collateral, at its time, under its manifest's policy (evidence.py)
2. every run: approvals of all members before it begins, countersigned lists of contributors, receipts by
attested keys that chain and keep to the manifest (run_record.py, receipt_faults.py) 3. keys and parameters
go to attested enclaves only; a release is by the manifest's rule, on enough approvals, of
   the last receipt

What a bundle cannot show is said too: that a nonce was fresh is known only to the party that drew it.
"""

from __future__ import annotations

from collections import Counter

from contracts.receipts import SignedReceipt
from contracts.refusal import Refusal
from contracts.release_check import check_release, parse_release
from contracts.releases import SERVE, require_approved
from transparency_log.archive import Archive
from transparency_log.attached import Attached
from transparency_log.entry import (
    FORMAT,
    RECORDED,
    AdmissionBody,
    AppraisalBody,
    ApprovalBody,
    Body,
    LeafEntry,
    Outline,
    ParametersBody,
    ReleaseBody,
    RosterBody,
    RosterFixedBody,
    ServingBody,
    typed_body,
)
from transparency_log.evidence import Appraisals, server_program
from transparency_log.receipt_faults import Fault
from transparency_log.report import CLAIMS, BundleReport, Claim
from transparency_log.run_record import RunRecord
from transparency_log.sweep_record import SweepRecord


class Statements:
    """Takes entries in the order of the log, then finishes. Failures and results go into the report."""

    def __init__(self, archive: Archive, report: BundleReport) -> None:
        self._report, self._attached = report, Attached(archive, report)
        self._done: dict[Claim, Counter[str]] = {claim: Counter() for claim in CLAIMS}
        self._appraisals = Appraisals(self._attached, report, self._done["evidence"])
        self._runs: dict[str, RunRecord] = {}
        self._sweeps = SweepRecord()
        self._recorded = 0
        self._passed: dict[int, list[int]] = {}

    def pass_over(self, index: int, entry: Outline) -> None:
        """An entry of another format is in the log, but what it says is not known."""
        self._attached.name(entry.attachments, index)
        self._passed.setdefault(entry.version, []).append(index)

    def take(self, index: int, entry: LeafEntry, *, from_start: bool) -> None:
        """Judge one entry by those before it; `from_start` where these are all that the log had before."""
        from_start &= not self._passed
        self._attached.name(entry.attachments, index)
        try:
            body = typed_body(entry)
        except Refusal as refusal:
            self._report.failed("the log", f"What it says was refused: {refusal}", refusal.code, index)
            return
        if isinstance(body, AppraisalBody):
            self._appraisals.take(index, entry.at, body)
        elif body is not None:
            self._take(index, body, from_start)
        elif entry.kind in RECORDED:
            self._recorded += 1
        else:
            words = f"this verifier does not know entries of kind {entry.kind}."
            self._report.missing("the log", words, "bundle.unknown_kind", index)

    def finish(self, exported_by: str) -> None:
        """Judge what can be judged only at the end, then say what was established and what was not."""
        for version, indexes in self._passed.items():
            words = (
                f"{len(indexes)} entries, the first at {indexes[0]}, are of format {version}, and this "
                f"version reads format {FORMAT}: what they say was not judged. Exported by: "
                f"{exported_by[:100]}."
            )
            self._report.missing("the log", words, "bundle.other_format")
        for run in self._runs.values():
            run.finish()
        self._attached.check(all_read=not self._passed)
        for claim, done in self._done.items():
            for words, count in done.items():
                self._report.established(claim, f"{words}: {count}.")
        if self._recorded:
            words = f"Decisions on reference values, recorded and not judged: {self._recorded}."
            self._report.open("the log", words)
        if self._appraisals.unknowable:
            words = "Refusals by what only the relying party knew (its nonce, what it had seen)"
            self._report.open("evidence", f"{words}: {self._appraisals.unknowable}.")
        if self._report.development:
            words = "DEVELOPMENT ONLY: some evidence is under a development root and shows no hardware."
            self._report.open("evidence", words)
        if self._done["evidence"]:
            words = "That nonces were fresh and used once: only the party that drew one knows."
            self._report.open("evidence", words)

    def _take(self, index: int, body: Body, from_start: bool) -> None:
        claim, manifest = _about(body)
        run = self._run(manifest, index, claim)
        if run is None:
            return
        try:
            match body:
                case ApprovalBody():
                    run.approve(index, body)
                    if body.sweep is not None:
                        self._fail(
                            claim, index, self._sweeps.approve(run.manifest, body.site, body.sweep.signed)
                        )
                        self._done[claim]["Of them by one signature for a whole sweep"] += 1
                case RosterFixedBody():
                    run.fix(index, body.roster, from_start)
                case RosterBody():
                    run.countersigned(index, body, from_start)
                case SignedReceipt():
                    self._report.development |= body.receipt.development
                    signer = self._appraisals.signer(manifest, server_program(run.manifest), body.signing_key)
                    run.receive(index, body, signer, from_start)
                case AdmissionBody():
                    self._admission(index, body, run, from_start)
                case ParametersBody():
                    self._parameters(index, body, run, from_start)
                case ReleaseBody():
                    self._release(index, body, run, from_start)
                case ServingBody():
                    self._serving(index, body, run, from_start)
        except Refusal as refusal:
            self._report.failed(claim, f"what it says was refused: {refusal}", refusal.code, index)

    def _admission(self, index: int, body: AdmissionBody, run: RunRecord, from_start: bool) -> None:
        run.use(index, from_start)
        run.manifest.site(body.site)
        run.admissions.add(body.signing_key)
        signer = self._appraisals.signer(body.manifest, "client_slice", body.signing_key)
        if signer is not None and signer.subject != body.site:
            words = f"the key is {signer.subject}'s, not {body.site}'s."
            self._report.failed("keys", words, "bundle.not_attested", index)
        elif run.attested("keys", index, body.signing_key, body.measurement, signer, from_start):
            run.admitted.add(body.signing_key)

    def _parameters(self, index: int, body: ParametersBody, run: RunRecord, from_start: bool) -> None:
        run.use(index, from_start)
        strangers = [key for key in body.recipients if key not in run.admitted]
        for key in strangers:
            words = f"the parameters are sealed to the key {key[:16]}…, of no client slice admitted before."
            if from_start and key not in run.admissions:
                self._report.failed("keys", words, "bundle.not_attested", index)
            else:
                self._report.missing("keys", words, "bundle.no_evidence", index)
        if not strangers:
            self._done["keys"]["Parameters sealed to admitted client slices only"] += 1

    def _release(self, index: int, body: ReleaseBody, run: RunRecord, from_start: bool) -> None:
        signed = parse_release(body.release)
        said = signed.released
        self._report.development |= said.development
        run.use(index, from_start)
        check_release(signed, run.manifest, said.receipt, body.release_approvals, run.known)
        self._fail("releases", index, self._sweeps.release(said.manifest, body.release_approvals, run.known))
        signer = self._appraisals.signer(said.manifest, said.program, signed.signing_key)
        good = run.attested("releases", index, signed.signing_key, said.measurement, signer, from_start)
        if not self._last(index, said.receipt, run, from_start):
            return
        run.released[said.output] = index
        if good:
            self._done["releases"][
                "Releases of parameters that their sites have approved, by attested enclaves"
            ] += 1

    def _serving(self, index: int, body: ServingBody, run: RunRecord, from_start: bool) -> None:
        run.use(index, from_start)
        require_approved(run.manifest, body.receipt, body.release_approvals, run.known, SERVE)
        if self._last(index, body.receipt, run, from_start):
            self._done["releases"]["Models that their sites have approved for serving"] += 1

    def _fail(self, claim: Claim, index: int, faults: list[Fault]) -> None:
        for code, words in faults:
            self._report.failed(claim, words, code, index)

    def _last(self, index: int, receipt: str, run: RunRecord, from_start: bool) -> bool:
        """Whether the receipt is the run's last, as far as the log goes; what is wrong is told."""
        if run.hashes and receipt == run.hashes[-1]:
            return True
        words = "its receipt is not the run's last."
        if from_start or receipt in run.hashes:
            self._report.failed("releases", words, "bundle.not_last_receipt", index)
        else:
            self._report.missing("releases", "its receipt is not here.", "bundle.no_entry", index)
        return False

    def _run(self, manifest: str, index: int, claim: Claim) -> RunRecord | None:
        if manifest not in self._runs:
            parsed = self._attached.manifest(manifest, index, claim)
            if parsed is None:
                return None
            self._runs[manifest] = RunRecord(parsed, self._report, self._done)
        return self._runs[manifest]


def _about(body: Body) -> tuple[Claim, str]:
    """Which claim an entry bears on, and the manifest of its run."""
    match body:
        case AppraisalBody():
            return "evidence", body.manifest
        case ApprovalBody():
            return "approvals", body.manifest
        case RosterFixedBody() | RosterBody():
            return "contributors", body.roster.manifest
        case SignedReceipt():
            return "rounds", body.receipt.manifest
        case AdmissionBody() | ParametersBody():
            return "keys", body.manifest
        case ReleaseBody():
            return "releases", body.release.released.manifest
        case ServingBody():
            return "releases", body.manifest
