"""What a log says of one run: who approved it, who contributed to which round, what its receipts say.

Each is judged by the run's manifest and by what stands before it in the log. "From the start" means that the
bundle holds everything that the log had before: what is not there then never was.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, field

from contracts.approvals import Approval, verify_approval
from contracts.manifest import Manifest
from contracts.pooling import may_pool
from contracts.receipt_chain import course_fault, verify_chain
from contracts.receipts import NO_RECEIPT, SignedReceipt, receipt_hash
from contracts.refusal import Refusal
from contracts.roster import Roster, roster_hash, verify_roster
from transparency_log.entry import ApprovalBody, RosterBody
from transparency_log.evidence import LoggedSigner
from transparency_log.noise_record import NoiseRecord
from transparency_log.receipt_faults import receipt_faults, roster_faults
from transparency_log.report import BundleReport, Claim


class RunRecord(Struct):
    """One run. `first_use` is the first entry that acts by its manifest; `unapproved` are the members whose
    approval did not stand before that, as far as this bundle shows."""

    manifest: Manifest
    report: BundleReport
    done: dict[Claim, Counter[str]]
    approvals: dict[str, int] = field(default_factory=dict)
    confirmed: dict[str, Approval] = field(default_factory=dict)
    first_use: int | None = None
    unapproved: set[str] = field(default_factory=set)
    fixed: dict[int, Roster] = field(default_factory=dict)
    rosters: dict[str, Roster] = field(default_factory=dict)
    receipts: list[SignedReceipt] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    starts_whole: bool = False
    released: dict[str, int] = field(default_factory=dict)
    admissions: set[str] = field(default_factory=set)
    admitted: set[str] = field(default_factory=set)
    noise: NoiseRecord | None = None

    def approve(self, index: int, body: ApprovalBody) -> None:
        """A member's approval. Before the run begins, the latest counts.

        Raises: as `verify_approval`.
        """
        given = Approval(body.confirmed, body.signature, body.sweep)
        verify_approval(self.manifest, body.site, given, "sealing.bad_signature")
        if self.first_use is None or body.site not in self.confirmed:
            self.confirmed[body.site] = given
        if body.site in self.unapproved:
            self.unapproved.discard(body.site)
            words = f"{body.site} approved after the run had begun, at entry {self.first_use}."
            self._fail("approvals", index, words, "bundle.unapproved")
        self.approvals.setdefault(body.site, index)
        self.done["approvals"]["Approvals signed by the sites' approval keys in the manifest"] += 1

    @property
    def known(self) -> dict[str, Approval]:
        """By whose approval members count. One that is not here, which `finish` tells, lets all of them."""
        everybody = tuple(site.id for site in self.manifest.sites)
        return {site: self.confirmed.get(site, Approval(everybody, "")) for site in everybody}

    def use(self, index: int, from_start: bool) -> None:
        """An entry acts by the manifest: before the first that does, every member has approved."""
        if self.first_use is not None:
            return
        self.first_use = index
        members = {site.id for site in self.manifest.sites}
        absent = sorted(members - set(self.approvals))
        if not from_start:
            self.unapproved = set(absent)
        elif absent:
            words = f"the run begins here, without an approval before it by {', '.join(absent)}."
            self._fail("approvals", index, words, "bundle.unapproved")
        if not absent:
            self.done["approvals"]["Runs that every member had approved before they began"] += 1

    def fix(self, index: int, roster: Roster, from_start: bool) -> None:
        """A list of contributors before it is countersigned: one for a round, and no other."""
        self.use(index, from_start)
        for code, fault in roster_faults(roster, self.manifest, self.known):
            self._fail("contributors", index, fault, code)
        if roster.pooled and not may_pool(roster, self.fixed.values()):
            words = (
                f"round {roster.round} pools scores beside those of other sites, or twice after a receipt."
            )
            self._fail("contributors", index, words, "bundle.two_pools")
        if self.fixed.setdefault(roster.round, roster) != roster:
            words = f"round {roster.round} has two lists of contributors."
            self._fail("contributors", index, words, "bundle.two_rosters")

    def countersigned(self, index: int, body: RosterBody, from_start: bool) -> None:
        """A countersigned list.

        Raises: as `verify_roster`.
        """
        self.fix(index, body.roster, from_start)
        verify_roster(body.roster, body.countersignatures, self.manifest, self.known)
        self.rosters[roster_hash(body.roster)] = body.roster
        self.done["contributors"]["Lists of contributors countersigned by every site on them"] += 1

    def receive(
        self, index: int, signed: SignedReceipt, signer: LoggedSigner | None, from_start: bool
    ) -> None:
        """A receipt: by an attested key, of an own round, over a countersigned list, within the manifest."""
        receipt, name = signed.receipt, receipt_hash(signed.receipt)
        self.use(index, from_start)
        if any(one.receipt.round == receipt.round for one in self.receipts):
            words = f"round {receipt.round} has two receipts."
            self._fail("rounds", index, words, "bundle.two_receipts")
        if self.released:
            words = f"it follows a release, at entry {max(self.released.values())}, of the last receipt."
            self._fail("rounds", index, words, "bundle.not_last_receipt")
        if not self.receipts:
            self.starts_whole = from_start
        self.receipts.append(signed)
        self.hashes.append(name)
        self.attested("rounds", index, signed.signing_key, receipt.measurement, signer, from_start)
        roster = self.rosters.get(receipt.roster)
        if roster is None:
            words = "no countersigned list of contributors stands before it."
            self._absent("rounds", index, words, from_start)
        self.noise = self.noise or NoiseRecord(self.manifest)
        faults = [*receipt_faults(receipt, roster, self.manifest, self.known), *self.noise.take(receipt)]
        for code, fault in faults:
            self._fail("rounds", index, fault, code)
        if roster is not None and not faults:
            self.done["rounds"]["Receipts with exactly the contributions that the sites countersigned"] += 1

    def attested(
        self,
        claim: Claim,
        index: int,
        key: str,
        measurement: str | None,
        signer: LoggedSigner | None,
        from_start: bool,
    ) -> bool:
        """Whether an appraisal before this entry attests the key, with this measurement."""
        if signer is None:
            if from_start:
                words = f"no accepted evidence before it attests the key {key[:16]}… as this run's program."
                self._fail(claim, index, words, "bundle.not_attested")
            else:
                words = f"the evidence for the key {key[:16]}… is not here."
                self.report.missing(claim, words, "bundle.no_evidence", index)
            return False
        if not signer.again:
            words = f"the evidence for the key {key[:16]}… (entry {signer.index}) could not be judged again."
            self.report.missing(claim, words, "bundle.no_evidence", index)
            return False
        if signer.measurement != measurement:
            words = f"it names the measurement {measurement}, its signer's evidence {signer.measurement}."
            self._fail(claim, index, words, "bundle.not_attested")
            return False
        self.done[claim]["Entries by or for keys of accepted evidence that stands before them"] += 1
        return True

    def finish(self) -> None:
        """Judge the chain of receipts; say whose approval is not here."""
        for site in sorted(self.unapproved):
            words = f"the approval of {self.manifest.run} by {site} is not here."
            self.report.missing("approvals", words, "bundle.no_approval", self.first_use)
        if not self.receipts:
            return
        first = self.receipts[0].receipt
        after = first.previous
        if after != NO_RECEIPT:
            words = f"the first receipts of run {first.run} are not here."
            self._absent("rounds", None, words, self.starts_whole)
        try:
            verify_chain(self.receipts, manifest=self.manifest.hash, after=after)
        except Refusal as refusal:
            words = f"The receipts of run {first.run} do not chain: {refusal}"
            self.report.failed("rounds", words, refusal.code)
            return
        if self._course_faults():
            return
        self.done["rounds"]["Runs whose receipts form an unbroken chain"] += 1
        if self.noise is not None and (worth := self.noise.in_words()):
            self.done["rounds"][worth] += 1

    def _course_faults(self) -> bool:
        """Each receipt continues the course of its run, and names the best round that its scores make. The
        first one of a part of a log has nothing to be compared with."""
        before, found = None, False
        for receipt in (signed.receipt for signed in self.receipts):
            known = before is not None or receipt.previous == NO_RECEIPT
            fault = course_fault(self.manifest, before, receipt) if known else None
            before = receipt
            if fault is not None:
                found = True
                words = f"The receipt of round {receipt.round} of run {receipt.run}: {fault}."
                self.report.failed("rounds", words, "bundle.wrong_course")
        return found

    def _absent(self, claim: Claim, index: int | None, words: str, from_start: bool) -> None:
        if from_start:
            self.report.failed(claim, words, "receipt.chain_broken", index)
        else:
            self.report.missing(claim, words, "bundle.no_entry", index)

    def _fail(self, claim: Claim, index: int, words: str, code: str) -> None:
        self.report.failed(claim, words, code, index)
