"""What the entries of a bundle say, judged again: verdicts on evidence, approvals, rosters, receipts.

1. every appraisal is done again over the raw quote and collateral, under its policy, at its time
2. every receipt is signed by a key of accepted evidence for its manifest that stands *before* it in the log,
   has exactly the inputs of a countersigned roster logged before it, and continues the chain of its run
3. every approval and countersignature is by the key that the manifest gives to the site
4. parameters were released by the rule of the manifest, by an attested enclave, on the orders of enough sites

What a bundle cannot show is said too: that a nonce was fresh is known only to the party that drew it.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from attestation.appraisal import Appraisal, appraise
from contracts import signing
from contracts.canonical import digest
from contracts.evidence import Evidence, Expected
from contracts.manifest import APPROVAL_DOMAIN, Manifest, approval_payload
from contracts.manifest import parse as parse_manifest
from contracts.policy import Policy
from contracts.receipts import NO_RECEIPT, SignedReceipt, receipt_hash, verify_chain
from contracts.refusal import Refusal
from contracts.releases import check_release, parse_release
from contracts.roster import roster_hash, verify_roster
from transparency_log.archive import Archive
from transparency_log.entry import (
    AppraisalBody,
    ApprovalBody,
    Entry,
    ReleaseBody,
    RosterBody,
    typed_body,
)
from transparency_log.report import BundleReport

_SAME = ("tee", "status", "measurement", "development", "quote_sha256", "collateral_sha256", "root_sha256")


class Statements:
    """Takes entries in the order of the log, then finishes. Failures and results go into the report."""

    def __init__(self, archive: Archive, report: BundleReport) -> None:
        self._archive, self._report = archive, report
        self._policies: dict[str, Policy | None] = {}
        self._manifests: dict[str, Manifest | None] = {}
        # Keys of evidence that the log accepted, and whether judging it again accepted it too.
        self._attested: dict[tuple[str, str, str], bool] = {}  # (manifest, program, signing key) -> again
        self._rosters: dict[str, RosterBody] = {}
        self._chains: dict[str, list[SignedReceipt]] = defaultdict(list)  # manifest -> receipts
        self._done: dict[str, int] = defaultdict(int)  # words -> how many
        self._open: dict[str, int] = defaultdict(int)

    def take(self, index: int, entry: Entry, *, from_start: bool) -> None:
        """Judge one entry by those before it; `from_start` where these are all that the log had before."""
        try:
            match typed_body(entry):
                case AppraisalBody() as body:
                    self._appraisal(index, body)
                case ApprovalBody() as body:
                    self._approval(body)
                case RosterBody() as body:
                    self._roster(body)
                case SignedReceipt() as body:
                    self._receipt(index, body, from_start)
                case ReleaseBody() as body:
                    self._release(index, body, from_start)
                case None:
                    self._open["Entries of kinds whose content is recorded and not re-checked: {n}."] += 1
        except Refusal as refusal:
            self._report.failed(f"What it says was refused: {refusal}", refusal.code, index)

    def finish(self) -> None:
        """Judge the chains, then say what was established and what was not."""
        for manifest, receipts in self._chains.items():
            first = receipts[0].receipt
            try:
                verify_chain(receipts, manifest=manifest, after=first.previous)
            except Refusal as refusal:
                self._report.failed(f"The receipts of run {first.run} do not chain: {refusal}", refusal.code)
                continue
            self._done["Runs whose receipts form an unbroken chain: {n}."] += 1
            if first.previous != NO_RECEIPT:
                self._open["Runs whose first receipts are not in this bundle: {n}."] += 1
        for words, count in self._done.items():
            self._report.established(words.format(n=count))
        for words, count in self._open.items():
            self._report.open(words.format(n=count))
        if self._report.development:
            self._report.open(
                "DEVELOPMENT ONLY: some evidence is under a development root and shows no hardware."
            )
        if self._done or self._open:
            self._report.open("That nonces were fresh and used once: only the party that drew one knows.")

    def _appraisal(self, index: int, body: AppraisalBody) -> None:
        recorded = body.appraisal
        self._report.development |= recorded.get("development") is True
        accepted = recorded.get("verdict") == "accepted"
        again = self._appraise(body)
        claims = body.claims
        if accepted:
            key = (claims.manifest, claims.program, claims.signing_key)
            self._attested[key] = self._attested.get(key, False) or again is not None
        if again is None:
            self._open[
                "Verdicts that could not be reached again, as quote, collateral or policy is not here: {n}."
            ] += 1
            return
        if accepted:
            same = ("accepted", *(recorded.get(name) for name in _SAME))
            if (again.verdict, *(getattr(again, name) for name in _SAME)) != same:
                self._report.failed(
                    f"The log says accepted, but judging again gives {again.verdict} "
                    f"({again.code or 'no code'}), measurement {again.measurement}.",
                    again.code or "log.invalid_entry",
                    index,
                )
                return
            self._done["Acceptances reached again from the raw evidence, at their own time: {n}."] += 1
        elif again.verdict == "refused" and again.code == recorded.get("code"):
            self._done["Refusals reached again from the raw evidence, with the same code: {n}."] += 1
        else:
            # A refusal can rest on what only the relying party knows: the nonce it drew, the floors it keeps.
            self._open[
                "Refusals that rest on the relying party's own knowledge (nonce, binding, floors): {n}."
            ] += 1

    def _appraise(self, body: AppraisalBody) -> Appraisal | None:
        quote, collateral = self._archive.attachment(body.quote), self._archive.attachment(body.collateral)
        policy = self._policy(body.policy)
        at = body.appraisal.get("at")
        if quote is None or collateral is None or policy is None or not isinstance(at, int):
            return None
        try:
            fields = msgspec.json.decode(collateral, type=dict[str, str])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        claims = body.claims
        expected = Expected(nonce=claims.nonce, manifest=claims.manifest, program=claims.program)
        return appraise(Evidence(quote, fields, claims), policy, at=at, expected=expected)

    def _approval(self, body: ApprovalBody) -> None:
        manifest = self._manifest(body.manifest)
        if manifest is None:
            self._open["Approvals whose manifest is not in the bundle: {n}."] += 1
            return
        key = manifest.site(body.site).public_key
        signing.verify(key, APPROVAL_DOMAIN, approval_payload(body.manifest, body.site), body.signature)
        self._done["Approvals signed by the sites' keys in the manifest: {n}."] += 1

    def _roster(self, body: RosterBody) -> None:
        self._rosters[roster_hash(body.roster)] = body
        manifest = self._manifest(body.roster.manifest)
        if manifest is None:
            self._open["Rosters whose manifest is not in the bundle: {n}."] += 1
            return
        verify_roster(body.roster, body.countersignatures, manifest)
        self._done["Rosters countersigned by every site that they list: {n}."] += 1

    def _receipt(self, index: int, signed: SignedReceipt, from_start: bool) -> None:
        receipt = signed.receipt
        self._report.development |= receipt.development
        self._chains[receipt.manifest].append(signed)
        attested = self._attested.get((receipt.manifest, receipt.program, signed.signing_key))
        if attested:
            self._done["Receipts signed by keys of accepted evidence that stands before them: {n}."] += 1
        elif attested is None and from_start:
            self._report.failed(
                "No accepted evidence before it attests the key that signed it.",
                "receipt.chain_broken",
                index,
            )
        else:
            self._open["Receipts signed by keys whose evidence is not in the bundle: {n}."] += 1
        body = self._rosters.get(receipt.roster)
        if body is None:
            self._open["Receipts whose roster is not in the bundle before them: {n}."] += 1
        elif [(entry.site, entry.sha256) for entry in receipt.inputs] != [
            (entry.site, entry.sha256) for entry in body.roster.inputs
        ] or (receipt.round, receipt.previous) != (body.roster.round, body.roster.previous):
            self._report.failed("It does not keep to its roster.", "receipt.chain_broken", index)
        else:
            self._done["Receipts with exactly the contributions that the sites had countersigned: {n}."] += 1

    def _release(self, index: int, body: ReleaseBody, from_start: bool) -> None:
        signed = parse_release(msgspec.to_builtins(body.release))
        said = signed.released
        self._report.development |= said.development
        manifest = self._manifest(said.manifest)
        if manifest is None:
            self._open["Releases whose manifest is not in the bundle: {n}."] += 1
            return
        check_release(signed, manifest, said.receipt, body.consents)
        receipts = {receipt_hash(one.receipt) for one in self._chains[said.manifest]}
        attested = self._attested.get((said.manifest, said.program, signed.signing_key))
        if from_start and (attested is None or said.receipt not in receipts):
            self._report.failed(
                "Neither evidence for the key that signed it nor its receipt stand before it.",
                "release.mismatch",
                index,
            )
        elif attested and said.receipt in receipts:
            self._done[
                "Releases of parameters that their sites have ordered, by attested enclaves: {n}."
            ] += 1
        else:
            self._open["Releases whose evidence or receipt is not in the bundle: {n}."] += 1

    def _policy(self, sha256: str) -> Policy | None:
        if sha256 not in self._policies:
            data = self._archive.attachment(sha256)
            try:
                policy = None if data is None else msgspec.json.decode(data, type=Policy)
            except (msgspec.DecodeError, UnicodeDecodeError):
                policy = None
            self._policies[sha256] = policy if policy is not None and digest(policy) == sha256 else None
        return self._policies[sha256]

    def _manifest(self, sha256: str) -> Manifest | None:
        if sha256 not in self._manifests:
            data = self._archive.attachment(sha256)
            self._manifests[sha256] = None if data is None else parse_manifest(data)
        return self._manifests[sha256]
