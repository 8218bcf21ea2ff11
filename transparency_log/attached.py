"""The raw things that entries name, read from a bundle: what is absent is missing, what is no such thing has
failed."""

from __future__ import annotations

import msgspec

from contracts.canonical import canonical, digest
from contracts.manifest import Manifest
from contracts.manifest import parse as parse_manifest
from contracts.policy import Policy
from contracts.refusal import Refusal
from transparency_log.archive import Archive
from transparency_log.report import BundleReport, Claim

MANIFEST, POLICY, QUOTE, COLLATERAL = "manifest", "policy", "quote", "collateral"


class Attached:
    """Attachments by name. What is absent is told once, with the first entry that needed it."""

    def __init__(self, archive: Archive, report: BundleReport) -> None:
        self._archive, self._report = archive, report
        self._manifests: dict[str, Manifest | None] = {}
        self._policies: dict[str, Policy | None] = {}
        self._named: set[str] = set()
        self._reported: set[str] = set()

    def name(self, names: tuple[str, ...], index: int) -> None:
        """An entry names these; each has to be in the bundle."""
        for sha256 in names:
            if sha256 not in self._named:
                self._named.add(sha256)
                if not self._archive.has_attachment(sha256):
                    self._report.missing(
                        "attachments", f"it names {sha256}, which is not here.", "bundle.no_attachment", index
                    )

    def check(self, *, all_read: bool) -> None:
        """Each attachment has the hash that is its name, and an entry names it, where all could be read."""
        names = self._archive.attachments()
        sound = 0
        for sha256 in names:
            if self._archive.attachment(sha256) is None:
                self._report.failed(
                    "attachments",
                    f"The attachment {sha256} has another content than its name says.",
                    "bundle.attachment_changed",
                )
            elif sha256 not in self._named and all_read:
                self._report.failed(
                    "attachments", f"No entry names the attachment {sha256}.", "bundle.attachment_unnamed"
                )
            elif sha256 in self._named:
                sound += 1
        if sound:
            self._report.established(
                "attachments", f"Attachments that are what entries name by hash: {sound}."
            )

    def manifest(self, sha256: str, index: int, claim: Claim) -> Manifest | None:
        """The run manifest with this hash; None where it is absent or cannot be read, which is reported."""
        if sha256 not in self._manifests:
            data = self._raw(sha256, MANIFEST, index, claim)
            try:
                self._manifests[sha256] = None if data is None else parse_manifest(data)
            except Refusal as refusal:
                self._unreadable(MANIFEST, index, claim, str(refusal))
                self._manifests[sha256] = None
        return self._manifests[sha256]

    def policy(self, sha256: str, index: int) -> Policy | None:
        """The policy with this hash, likewise."""
        if sha256 not in self._policies:
            data = self._raw(sha256, POLICY, index, "evidence")
            policy: Policy | None = None
            if data is not None:
                try:
                    policy = msgspec.json.decode(data, type=Policy)
                    if digest(policy) != sha256:
                        raise msgspec.ValidationError("it is not in canonical form")
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    self._unreadable(POLICY, index, "evidence", str(error)[:200])
                    policy = None
            self._policies[sha256] = policy
        return self._policies[sha256]

    def quote(self, sha256: str, index: int) -> bytes | None:
        """The raw quote."""
        return self._raw(sha256, QUOTE, index, "evidence")

    def collateral(self, sha256: str, index: int) -> dict[str, str] | None:
        """The collateral's fields."""
        data = self._raw(sha256, COLLATERAL, index, "evidence")
        if data is None:
            return None
        try:
            fields: dict[str, str] = msgspec.json.decode(data, type=dict[str, str])
            if canonical(fields) != data:
                raise msgspec.ValidationError("it is not in canonical form")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._unreadable(COLLATERAL, index, "evidence", str(error)[:200])
            return None
        return fields

    def _raw(self, sha256: str, what: str, index: int, claim: Claim) -> bytes | None:
        data = self._archive.attachment(sha256)
        # One that was changed is a failure of its own (`check`).
        if data is None and sha256 not in self._reported and not self._archive.has_attachment(sha256):
            self._reported.add(sha256)
            code = "bundle.no_manifest" if what == MANIFEST else "bundle.no_evidence"
            self._report.missing(claim, f"the {what} {sha256} is not here.", code, index)
        return data

    def _unreadable(self, what: str, index: int, claim: Claim, fault: str) -> None:
        self._report.failed(
            claim, f"the {what} that it names is none: {fault}", "bundle.attachment_unreadable", index
        )
