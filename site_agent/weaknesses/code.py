"""Whose code a policy trusts, and on which processors: compared with what this site knows for itself."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.checks.examination import INTEL_ROOT_SHA256
from contracts.policy import Policy, Reference, SgxReference, TdxReference
from contracts.release_statement import ReleasedProgram
from site_agent.weaknesses.kinds import Known, Weakness
from translations.catalogues import words

_ = words("site_agent")

SOUND_STATUSES = {"UpToDate", "SWHardeningNeeded"}


def of_root(policy: Policy, known: Known) -> Iterator[Weakness]:
    right = INTEL_ROOT_SHA256 if policy.root == "intel" else known.root_sha256
    if policy.root_sha256 != right:
        yield Weakness(
            "unknown-root",
            _(
                "Its trust root (%(root)s, SHA-256 %(value)s…) is not the one that this site knows: "
                "whoever holds that root can make an enclave of anything."
            )
            % {"root": policy.root, "value": policy.root_sha256[:16]},
        )


def of_reference(reference: Reference, known: Known) -> Iterator[Weakness]:
    program = reference.program
    if not isinstance(reference, SgxReference) or reference.mrenclave is not None:
        if not _is_known_code(reference, known):
            yield Weakness(
                f"unknown-code-{program}",
                _("It lets code open what is sealed to the %(program)s that %(known)s.")
                % {"program": program, "known": _who_knows(known)},
            )
        return
    released = known.statement.of(program) if known.statement else None
    if reference.mrsigner is None or released is None or released.mrsigner != reference.mrsigner:
        yield Weakness(
            f"unknown-signer-{program}",
            _(
                "Anything that the signer %(value)s… signs may pose as the %(program)s, and no release "
                "statement names that signer."
            )
            % {"value": str(reference.mrsigner)[:16], "program": program},
        )
    if not reference.product_id:
        yield Weakness(
            f"product-zero-{program}",
            _(
                "The %(program)s may have product id 0, which no program of FedSlice has: any other "
                "enclave of the same signer passes."
            )
            % {"program": program},
        )
    elif released is not None and reference.product_id != released.product_id:
        yield Weakness(
            f"other-product-{program}",
            _("The %(program)s may be the product %(product_id)s; the release's is %(product_id_2)s.")
            % {"program": program, "product_id": reference.product_id, "product_id_2": released.product_id},
        )
    least = released.svn if released else 1
    if (reference.minimum_svn or 0) < least:
        yield Weakness(
            f"low-svn-{program}",
            _(
                "The %(program)s may be of security version %(value)s; %(least)s is the least that has "
                "all security fixes."
            )
            % {"program": program, "value": reference.minimum_svn or 0, "least": least},
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
        here = _("is not what the packages installed here measure")
        return (
            here
            if known.statement is None
            else _("%(here)s, or not what the release statement names") % {"here": here}
        )
    return (
        _("no release statement names")
        if known.statement is None
        else _("the release statement does not name")
    )


def of_status(policy: Policy) -> Iterator[Weakness]:
    for status in policy.accepted_statuses:
        if status not in SOUND_STATUSES:
            yield Weakness(
                f"tcb-{status}",
                _(
                    "A processor of TCB status %(status)s is accepted: Intel says that it lacks fixes, "
                    "or is set up in an unsafe way."
                )
                % {"status": status},
            )
