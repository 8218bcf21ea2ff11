"""What a person must not overlook: where a manifest trusts more, or asks for less, than a hospital should.

The coordinator writes the manifest, so it says which code may open what is sealed. That is compared here with
what this site knows for itself: what the installed packages measure (development), what the project's
release key has signed, and the policy that was approved here before. Each weakness has a name, and is
accepted by that name only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attestation.checks.examination import INTEL_ROOT_SHA256
from contracts.manifest import Manifest
from contracts.policy import Policy, Program, Reference, SgxReference, TdxReference
from contracts.release_statement import ReleasedProgram, ReleaseStatement

SOUND_STATUSES = {"UpToDate", "SWHardeningNeeded"}
LEAST = 2
"""Sites that a mean is taken over, and that sign a release, at least."""


@dataclass(frozen=True)
class Weakness:
    """`name` is what a script says to accept it, `text` what a person reads."""

    name: str
    text: str


@dataclass(frozen=True)
class Known:
    """What this site knows for itself. `own` is what the installed packages measure, on development runtimes
    alone; `trust_domains` is each program in a development trust domain, whose RTMR3 is the same on hardware;
    `statement` is the release's, None where no release key was pinned; `root_sha256` is the only trust
    root that this site's runtime has; `previous` is the policy that was approved here last."""

    root_sha256: str | None
    own: dict[Program, str]
    trust_domains: dict[Program, TdxReference]
    statement: ReleaseStatement | None
    previous: Policy | None


def weaknesses(manifest: Manifest, known: Known) -> list[Weakness]:
    """All of them, in a fixed order, each name once."""
    found = [
        *_of_root(manifest.policy, known),
        *(weakness for one in manifest.policy.references for weakness in _of_reference(one, known)),
        *_of_status(manifest.policy),
        *_of_numbers(manifest),
        *_since(manifest.policy, known.previous),
    ]
    return list({weakness.name: weakness for weakness in found}.values())


def _of_root(policy: Policy, known: Known) -> Iterator[Weakness]:
    right = INTEL_ROOT_SHA256 if policy.root == "intel" else known.root_sha256
    if policy.root_sha256 != right:
        yield Weakness(
            "unknown-root",
            f"Its trust root ({policy.root}, SHA-256 {policy.root_sha256[:16]}…) is not the one that this "
            "site knows: whoever holds that root can make an enclave of anything.",
        )


def _of_reference(reference: Reference, known: Known) -> Iterator[Weakness]:
    program = reference.program
    if not isinstance(reference, SgxReference) or reference.mrenclave is not None:
        if not _is_known_code(reference, known):
            yield Weakness(
                f"unknown-code-{program}",
                f"It lets code open what is sealed to the {program} that {_who_knows(known)}.",
            )
        return
    released = known.statement.of(program) if known.statement else None
    if reference.mrsigner is None or released is None or released.mrsigner != reference.mrsigner:
        yield Weakness(
            f"unknown-signer-{program}",
            f"Anything that the signer {str(reference.mrsigner)[:16]}… signs may pose as the {program}, and "
            "no release statement names that signer.",
        )
    if not reference.product_id:
        yield Weakness(
            f"product-zero-{program}",
            f"The {program} may have product id 0, which no program of FedSlice has: any other enclave of "
            "the same signer passes.",
        )
    elif released is not None and reference.product_id != released.product_id:
        yield Weakness(
            f"other-product-{program}",
            f"The {program} may be the product {reference.product_id}; the release's is "
            f"{released.product_id}.",
        )
    least = released.svn if released else 1
    if (reference.minimum_svn or 0) < least:
        yield Weakness(
            f"low-svn-{program}",
            f"The {program} may be of security version {reference.minimum_svn or 0}; {least} is the least "
            "that has all security fixes.",
        )


def _is_known_code(reference: Reference, known: Known) -> bool:
    """By all that this site can compare it with, and by one at least."""
    released = known.statement.of(reference.program) if known.statement else None
    if not isinstance(reference, SgxReference):
        return _is_known_domain(reference, released, known)
    if not known.own:
        return released is not None and released.mrenclave == reference.mrenclave
    if known.statement is not None and (released is None or released.development != reference.mrenclave):
        return False
    return known.own.get(reference.program) == reference.mrenclave


def _is_known_domain(reference: TdxReference, released: ReleasedProgram | None, known: Known) -> bool:
    """RTMR3 is that of the packages installed here, also for hardware; the image is the release's."""
    own = known.trust_domains.get(reference.program)
    if own is None or own.rtmrs[3] != reference.rtmrs[3]:
        return False
    if not known.own:
        tdx = released.tdx if released else None
        return tdx is not None and (tdx.mrtd, tdx.rtmrs) == (reference.mrtd, reference.rtmrs)
    measured = known.own.get(reference.program)
    if known.statement is not None and (released is None or released.development != measured):
        return False
    return own.measurement == reference.measurement


def _who_knows(known: Known) -> str:
    if known.own:
        here = "is not what the packages installed here measure"
        return here if known.statement is None else f"{here}, or not what the release statement names"
    return "no release statement names" if known.statement is None else "the release statement does not name"


def _of_status(policy: Policy) -> Iterator[Weakness]:
    for status in policy.accepted_statuses:
        if status not in SOUND_STATUSES:
            yield Weakness(
                f"tcb-{status}",
                f"A processor of TCB status {status} is accepted: Intel says that it lacks fixes, or is set "
                "up in an unsafe way.",
            )


def _of_numbers(manifest: Manifest) -> Iterator[Weakness]:
    if manifest.aggregation.quorum < LEAST:
        yield Weakness(
            "quorum-below-two",
            "A round needs one hospital only: a mean over one hospital is that hospital's parameters.",
        )
    rule = manifest.release.rule
    if rule in ("sealed-to-sites", "export") and manifest.release.approvals < LEAST:
        yield Weakness("release-by-one", "One hospital's signature is enough to release the parameters.")
    if rule == "export":
        yield Weakness(
            "export",
            "The tuned parameters may leave in clear: the study's lead and the coordinator's operator can "
            "read them, and whoever gets a copy.",
        )


def _since(policy: Policy, previous: Policy | None) -> Iterator[Weakness]:
    """Where it is weaker than what was approved here last."""
    if previous is None or previous.root != policy.root:
        return
    if previous.root_sha256 != policy.root_sha256:
        yield Weakness("changed-root", "Its trust root is another one than in what was approved here last.")
    more = set(policy.accepted_statuses) - set(previous.accepted_statuses)
    if more:
        yield Weakness("more-statuses", f"More TCB statuses than before: {', '.join(sorted(more))}.")
    advisories = set(policy.accepted_advisories) - set(previous.accepted_advisories)
    if advisories:
        told = ", ".join(sorted(advisories)[:8])
        yield Weakness("more-advisories", f"Security advisories are accepted that were not before: {told}.")
    if policy.minimum_tcb_evaluation < previous.minimum_tcb_evaluation:
        yield Weakness(
            "older-collateral",
            f"Older statements of Intel's are accepted (from number {policy.minimum_tcb_evaluation}) than "
            f"before (from {previous.minimum_tcb_evaluation}).",
        )
    for reference in policy.references:
        least = _least_svn(previous, reference.program)
        if (
            isinstance(reference, SgxReference)
            and reference.mrenclave is None
            and least is not None
            and (reference.minimum_svn or 0) < least
        ):
            yield Weakness(
                f"lower-svn-{reference.program}",
                f"An older security version of the {reference.program} is accepted than before "
                f"({reference.minimum_svn or 0}, not {least}).",
            )


def _least_svn(policy: Policy, program: Program) -> int | None:
    """The least security version that a policy accepts by a signer; None where it accepts none so."""
    accepted = [
        reference.minimum_svn or 0
        for reference in policy.references
        if isinstance(reference, SgxReference)
        and reference.program == program
        and reference.mrenclave is None
    ]
    return min(accepted, default=None)
