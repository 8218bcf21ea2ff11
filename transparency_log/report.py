"""What checking a bundle showed, in words for an auditor."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

Outcome = Literal["established", "failed", "not established"]
MAX_FINDINGS = 1000


class Finding(Struct, frozen=True):
    """One statement. `entry` is the log index that it is about, `code` the catalogue's name of a failure."""

    outcome: Outcome
    words: str
    entry: int | None = None
    code: str | None = None


class BundleReport(Struct):
    """The result: `verdict` is "verified" where nothing failed. `complete` says that the bundle holds every
    entry of the log up to `size`; `development` that some of it rests on development evidence."""

    origin: str = ""
    size: int = 0
    entries: int = 0
    created: int = 0
    verifier: str = ""
    complete: bool = False
    development: bool = False
    findings: list[Finding] = field(default_factory=list)
    failures: int = 0

    @property
    def verdict(self) -> Literal["verified", "refused"]:
        return "refused" if self.failures else "verified"

    @property
    def code(self) -> str | None:
        """The first failure's code."""
        return next((finding.code for finding in self.findings if finding.outcome == "failed"), None)

    def words(self, outcome: Outcome) -> list[str]:
        """All statements of one outcome, as sentences."""
        return [
            finding.words if finding.entry is None else f"Entry {finding.entry}: {finding.words}"
            for finding in self.findings
            if finding.outcome == outcome
        ]

    def established(self, words: str) -> None:
        self.findings.append(Finding("established", words))

    def open(self, words: str) -> None:
        """Something that this bundle cannot show."""
        self.findings.append(Finding("not established", words))

    def failed(self, words: str, code: str, entry: int | None = None) -> None:
        """Count a failure; the first MAX_FINDINGS are kept."""
        self.failures += 1
        if self.failures <= MAX_FINDINGS:
            self.findings.append(Finding("failed", words, entry, code))
