"""The coordinator's floors: the highest numbers of collateral that it has accepted. They only rise.

The verifier compares, this keeps (attestation/floors.py says why). Rising is one statement of the
database, so that of two writers none takes back what the other has written.
"""

from __future__ import annotations

from django.db.models import F
from django.db.models.functions import Greatest

from attestation.floors import Floor, Floors, Numbers
from federation.attestation.models import CollateralFloor

NUMBERS = ("tcb_evaluation", "qe_evaluation", "root_ca_crl_number", "pck_crl_number")


def load() -> Floors:
    """All floors, for the verifier."""
    names = ("root_sha256", "fmspc", "ca", *NUMBERS)
    return Floors(tuple(Floor(**row) for row in CollateralFloor.objects.values(*names)))


def rise(accepted: Numbers) -> None:
    """Keep the numbers of an *accepted* appraisal where they are higher."""
    place = {"root_sha256": accepted.root_sha256, "fmspc": accepted.fmspc, "ca": accepted.ca}
    if None in place.values():
        return
    new = {name: getattr(accepted, name) or 0 for name in NUMBERS}
    row, made = CollateralFloor.objects.get_or_create(**place, defaults=new)
    if not made:
        higher = {name: Greatest(F(name), value) for name, value in new.items()}
        CollateralFloor.objects.filter(pk=row.pk).update(**higher)
