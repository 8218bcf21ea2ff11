"""The coordinator's floors: the highest numbers of collateral that it has accepted. They only rise.

The verifier compares, this keeps (attestation/floors.py says why). Rising is one statement of the
database, so that of two writers none takes back what the other has written.
"""

from __future__ import annotations

from django.db.models import F
from django.db.models.functions import Greatest

from attestation.appraisal import Appraisal
from attestation.floors import Floor, Floors
from contracts import policy
from contracts.refusal import Refusal
from federation.attestation import collateral
from federation.attestation.models import CollateralFloor, CollateralSet, Root

NUMBERS = ("tcb_evaluation", "qe_evaluation", "root_ca_crl_number", "pck_crl_number")


def load() -> Floors:
    """All floors, for the verifier."""
    names = ("root_sha256", "fmspc", "ca", *NUMBERS)
    return Floors(tuple(Floor(**row) for row in CollateralFloor.objects.values(*names)))


def at_freeze(root: Root, tee: str, at: int) -> tuple[policy.CollateralFloor, ...]:
    """The floors for a manifest that is frozen at Unix time `at`: of each kind of platform, the set in use.

    Raises: `study.no_collateral` where none is known: nobody's evidence could be judged.
    """
    if root == Root.DEVELOPMENT:
        collateral.development(tee, at)
    found = [_policy_floor(row) for row in collateral.in_use() if (row.root, row.tee) == (root, tee)]
    if not found:
        raise Refusal("study.no_collateral", tee=tee)
    return tuple(sorted(found, key=lambda one: (one.fmspc, one.ca)))


def _policy_floor(row: CollateralSet) -> policy.CollateralFloor:
    issued = {part["name"]: part["start"] for part in row.parts}
    # A CRL's number may be longer than JSON's integers; a lower floor is still one.
    numbers = {name: min(getattr(row, name), 2**53 - 1) for name in NUMBERS}
    return policy.CollateralFloor(
        fmspc=row.fmspc,
        ca=row.ca,  # type: ignore[arg-type]
        tcb_info_issued=issued["TCB info"],
        qe_identity_issued=issued["QE identity"],
        root_ca_crl_issued=issued["root CA CRL"],
        pck_crl_issued=issued["PCK CRL"],
        **numbers,
    )


def rise(accepted: Appraisal) -> None:
    """Keep the numbers of an *accepted* appraisal where they are higher."""
    place = {"root_sha256": accepted.root_sha256, "fmspc": accepted.fmspc, "ca": accepted.ca}
    if None in place.values():
        return
    new = {name: getattr(accepted, name) or 0 for name in NUMBERS}
    row, made = CollateralFloor.objects.get_or_create(**place, defaults=new)
    if not made:
        higher = {name: Greatest(F(name), value) for name, value in new.items()}
        CollateralFloor.objects.filter(pk=row.pk).update(**higher)
