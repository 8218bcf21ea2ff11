"""Whose code a policy trusts, and on which processors: compared with what this site knows for itself."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.checks.examination import INTEL_ROOT_SHA256
from contracts.policy import Policy, Reference, SgxReference, TdxReference
from contracts.release_statement import ReleasedProgram
from site_agent.weaknesses.kinds import Known, Weakness

SOUND_STATUSES = {"UpToDate", "SWHardeningNeeded"}


def of_root(policy: Policy, known: Known) -> Iterator[Weakness]:
    right = INTEL_ROOT_SHA256 if policy.root == "intel" else known.root_sha256
    if policy.root_sha256 != right:
        yield Weakness(
            "unknown-root",
            f"Its trust root ({policy.root}, SHA-256 {policy.root_sha256[:16]}…) is not the one that this "
            "site knows: whoever holds that root can make an enclave of anything.",
        )


def of_reference(reference: Reference, known: Known) -> Iterator[Weakness]:
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


def of_status(policy: Policy) -> Iterator[Weakness]:
    for status in policy.accepted_statuses:
        if status not in SOUND_STATUSES:
            yield Weakness(
                f"tcb-{status}",
                f"A processor of TCB status {status} is accepted: Intel says that it lacks fixes, or is set "
                "up in an unsafe way.",
            )
