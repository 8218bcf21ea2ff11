"""Appraisals of a log, done again: the raw evidence, at its own time, under the policy of its run's manifest.

The policy is the *manifest's*, which the sites approved. An entry that names another one has failed, whatever
evidence and policy say of each other.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from attestation.appraisal import Appraisal, appraise
from attestation.floors import Floors
from contracts.canonical import digest
from contracts.evidence import Evidence, Expected
from contracts.manifest import Manifest
from transparency_log.attached import Attached
from transparency_log.entry import AppraisalBody
from transparency_log.report import BundleReport

SAME = ("tee", "status", "measurement", "development", "quote_sha256", "collateral_sha256", "root_sha256")
RELYING_PARTYS = ("attest.nonce", "attest.program", "attest.tcb_evaluation_floor", "attest.crl_floor")
"""Refusals by what only the relying party knew: the nonce that it drew, whom it asked, what it had seen."""
MAX_DELAY = 3600  # seconds between a verdict and its entry


class LoggedSigner(Struct, frozen=True):
    """A key of evidence that the log accepted. `again`: judging it again accepted it, too."""

    index: int
    subject: str
    measurement: str | None
    again: bool


class Appraisals:
    """Takes appraisals in the order of the log and knows whose keys they attest."""

    def __init__(self, attached: Attached, report: BundleReport, done: Counter[str]) -> None:
        self._attached, self._report, self._done = attached, report, done
        self._signers: dict[tuple[str, str, str], LoggedSigner] = {}
        self._floors = Floors()
        self.unknowable = 0

    def signer(self, manifest: str, program: str, key: str) -> LoggedSigner | None:
        """Who has this signing key, by an accepted appraisal that was taken before."""
        return self._signers.get((manifest, program, key))

    def take(self, index: int, at: int, body: AppraisalBody) -> None:
        """Judge an entry again; keys are attested by what was accepted and is not contradicted."""
        recorded = body.appraisal
        accepted = recorded.get("verdict") == "accepted"
        self._report.development |= recorded.get("development") is True
        manifest = self._attached.manifest(body.manifest, index, "evidence")
        if manifest is not None and self._contradicted(index, at, body, manifest, accepted):
            return
        again = self._judge(index, body, manifest)
        if again is None:
            if accepted:
                self._attest(index, body, None)
        elif accepted:
            self._compare(index, body, again)
        elif again.verdict == "refused" and again.code == recorded.get("code"):
            self._done["Refusals reached again from the raw evidence, with the same code"] += 1
        elif recorded.get("code") in RELYING_PARTYS:
            self.unknowable += 1
        else:
            found = again.code or again.verdict
            self._fail(
                index, f"the log says {recorded.get('code')}, but judging again gives {found}.", again.code
            )

    def _contradicted(
        self, index: int, at: int, body: AppraisalBody, manifest: Manifest, accepted: bool
    ) -> bool:
        server = server_program(manifest)
        sites = {site.id for site in manifest.sites}
        program = "client_slice" if body.subject in sites else server
        judged = body.appraisal.get("at")
        faults = {
            ("log.foreign_policy", "it was judged by another policy than its run's manifest names."): (
                body.policy != digest(manifest.policy)
            ),
            ("bundle.wrong_time", "it was not judged when it was logged, or before the manifest's time."): (
                not isinstance(judged, int)
                or not manifest.minimum_time <= judged
                or not at - MAX_DELAY <= judged <= at + MAX_DELAY
            ),
            ("bundle.wrong_program", "it is accepted for a program that this subject has no part in."): (
                accepted
                and (
                    body.claims.program != program
                    or body.subject not in {*sites, server}
                    or (program == "client_slice" and manifest.method != "method-1")
                )
            ),
        }
        for (code, words), found in faults.items():
            if found:
                self._fail(index, words, code)
        return any(faults.values())

    def _judge(self, index: int, body: AppraisalBody, manifest: Manifest | None) -> Appraisal | None:
        quote = self._attached.quote(body.quote, index)
        fields = self._attached.collateral(body.collateral, index)
        named = self._attached.policy(body.policy, index)
        at = body.appraisal.get("at")
        # The policy is the manifest's own; the attachment is what the entry promised to bring.
        if quote is None or fields is None or named is None or manifest is None or not isinstance(at, int):
            return None
        claims = body.claims
        return appraise(
            Evidence(quote, fields, claims, body.event_log),
            manifest.policy,
            at=at,
            expected=Expected(nonce=claims.nonce, manifest=body.manifest, program=claims.program),
            floors=self._floors,
        )

    def _compare(self, index: int, body: AppraisalBody, again: Appraisal) -> None:
        same = ("accepted", *(body.appraisal.get(name) for name in SAME))
        if (again.verdict, *(getattr(again, name) for name in SAME)) != same:
            self._fail(
                index,
                f"the log says accepted, but judging again gives {again.verdict} "
                f"({again.code or 'no code'}), measurement {again.measurement}.",
                again.code,
            )
            return
        self._floors = self._floors.raised(again)
        self._attest(index, body, again)
        self._done["Acceptances reached again from the raw evidence, at their own time"] += 1

    def _attest(self, index: int, body: AppraisalBody, again: Appraisal | None) -> None:
        claims = body.claims
        key = (body.manifest, claims.program, claims.signing_key)
        known = self._signers.get(key)
        if known is None or (again is not None and not known.again):
            measurement = None if again is None else again.measurement
            self._signers[key] = LoggedSigner(index, body.subject, measurement, again is not None)

    def _fail(self, index: int, words: str, code: str | None) -> None:
        self._report.failed("evidence", words, code or "bundle.verdict_differs", index)


def server_program(manifest: Manifest) -> str:
    """The program that a run's server enclaves run."""
    return "split_server" if manifest.method == "method-2" else "aggregator"
