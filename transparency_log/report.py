"""What checking a bundle showed, in words for an auditor.

Three verdicts. *failed*: something contradicts what a run promises. *incomplete*: nothing does, but
something is not here without which it cannot be known; "no failure" is not "verified". *verified*: all that a
bundle can show was shown.
"""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct, field

Claim = Literal[
    "the log", "attachments", "evidence", "approvals", "contributors", "rounds", "keys", "releases"
]
"""What is claimed, in the order in which a report speaks of it."""
CLAIMS: tuple[Claim, ...] = get_args(Claim)
Outcome = Literal["established", "missing", "failed", "not established"]
Verdict = Literal["verified", "incomplete", "failed"]
MAX_FINDINGS = 1000


class Finding(Struct, frozen=True):
    """One statement on a claim. `entry` is the log index that it is about; `code` is the catalogue's name of
    what failed or is missing. "not established" is what no bundle can show."""

    claim: Claim
    outcome: Outcome
    words: str
    entry: int | None = None
    code: str | None = None

    @property
    def sentence(self) -> str:
        return self.words if self.entry is None else f"Entry {self.entry}: {self.words}"


class BundleReport(Struct):
    """The result. `every_entry` says that the bundle holds all of the log up to `size`; `development`
    that some of it rests on development evidence. Of failures, and of what is missing, the first MAX_FINDINGS
    are kept and all are counted."""

    origin: str = ""
    size: int = 0
    entries: int = 0
    created: int = 0
    verifier: str = ""
    every_entry: bool = False
    development: bool = False
    findings: list[Finding] = field(default_factory=list)
    failures: int = 0
    missing_count: int = 0

    @property
    def verdict(self) -> Verdict:
        if self.failures:
            return "failed"
        # A bundle that holds not all of the log can hide what contradicts it.
        return "incomplete" if self.missing_count or not self.every_entry else "verified"

    @property
    def code(self) -> str | None:
        """The first failure's code, else that of the first thing that is missing."""
        outcome: Outcome = "failed" if self.failures else "missing"
        return next((finding.code for finding in self.findings if finding.outcome == outcome), None)

    def of(self, outcome: Outcome, claim: Claim | None = None) -> list[Finding]:
        """The statements of one outcome, on one claim or on all."""
        return [
            finding
            for finding in self.findings
            if finding.outcome == outcome and claim in (None, finding.claim)
        ]

    def words(self, outcome: Outcome, claim: Claim | None = None) -> list[str]:
        """The same as sentences."""
        return [finding.sentence for finding in self.of(outcome, claim)]

    def verdicts(self) -> dict[Claim, Verdict]:
        """The verdict on every claim that the bundle says something of."""
        verdicts: dict[Claim, Verdict] = {}
        for claim in CLAIMS:
            outcomes = {finding.outcome for finding in self.findings if finding.claim == claim}
            if "failed" in outcomes:
                verdicts[claim] = "failed"
            elif "missing" in outcomes:
                verdicts[claim] = "incomplete"
            elif "established" in outcomes:
                verdicts[claim] = "verified"
        return verdicts

    def established(self, claim: Claim, words: str) -> None:
        self.findings.append(Finding(claim, "established", words))

    def open(self, claim: Claim, words: str) -> None:
        """Something that no bundle can show."""
        self.findings.append(Finding(claim, "not established", words))

    def missing(self, claim: Claim, words: str, code: str, entry: int | None = None) -> None:
        """Something that is not here and has to be, for the claim to be checked."""
        self.missing_count += 1
        if self.missing_count <= MAX_FINDINGS:
            self.findings.append(Finding(claim, "missing", words, entry, code))

    def failed(self, claim: Claim, words: str, code: str, entry: int | None = None) -> None:
        """Something that contradicts the claim."""
        self.failures += 1
        if self.failures <= MAX_FINDINGS:
            self.findings.append(Finding(claim, "failed", words, entry, code))
