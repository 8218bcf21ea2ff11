"""Floors: what a relying party has seen, so that nobody shows it an older truth later.

Collateral stays valid for weeks. A host that keeps an old, still valid set could hide a new advisory or a
revocation. So each relying party keeps the highest numbers that it accepted, per (FMSPC, CA), and the
verifier refuses lower ones. The verifier stays pure: floors come in, the caller keeps what `raised` returns.

Nobody begins with nothing: a run's policy carries the floors of the day on which it was frozen, and every
appraisal by it starts there (`under`), an enclave's first one as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from contracts.policy import Policy

if TYPE_CHECKING:
    from attestation.appraisal import Appraisal

Count = Annotated[int, Meta(ge=0)]


class Floor(Struct, frozen=True, forbid_unknown_fields=True):
    """The highest numbers seen for platforms `fmspc` (hex) under the PCK CA `ca` of one root.

    The dates of issue (Unix seconds) come from policies alone and do not rise with what was seen: of two
    sites' sets of one day, either may be shown first.
    """

    root_sha256: str
    fmspc: str
    ca: str
    tcb_evaluation: Count = 0
    qe_evaluation: Count = 0
    root_ca_crl_number: Count = 0
    pck_crl_number: Count = 0
    tcb_info_issued: Count = 0
    qe_identity_issued: Count = 0
    root_ca_crl_issued: Count = 0
    pck_crl_issued: Count = 0


SEEN = ("tcb_evaluation", "qe_evaluation", "root_ca_crl_number", "pck_crl_number")
"""What rises with what was seen."""
OF_ROOT, OF_CA = ("root_ca_crl_number", "root_ca_crl_issued"), ("pck_crl_number", "pck_crl_issued")
NUMBERS = (*SEEN, "tcb_info_issued", "qe_identity_issued", "root_ca_crl_issued", "pck_crl_issued")


class Floors(Struct, frozen=True, forbid_unknown_fields=True):
    """All floors of one relying party. Starts empty; a value, never changed in place."""

    seen: tuple[Floor, ...] = ()

    def of(self, root_sha256: str, fmspc: str, ca: str) -> Floor:
        """The floor for one kind of platform. A CA's CRL serves all its platforms, the root's all."""
        under_root = [floor for floor in self.seen if floor.root_sha256 == root_sha256]
        under_ca = [floor for floor in under_root if floor.ca == ca]
        own = [floor for floor in under_ca if floor.fmspc == fmspc]
        among = {
            **dict.fromkeys(NUMBERS, own),
            **dict.fromkeys(OF_ROOT, under_root),
            **dict.fromkeys(OF_CA, under_ca),
        }
        highest = {name: max((getattr(one, name) for one in rows), default=0) for name, rows in among.items()}
        return Floor(root_sha256, fmspc, ca, **highest)

    def under(self, policy: Policy | None) -> Floors:
        """These floors and the policy's: what evidence is judged by. A view; the policy's are not kept."""
        if policy is None:
            return self
        return Floors((*self.seen, *(Floor(policy.root_sha256, **asdict(one)) for one in policy.floors)))

    def raised(self, accepted: Appraisal) -> Floors:
        """These floors after an *accepted* appraisal."""
        root, fmspc, ca = accepted.root_sha256, accepted.fmspc, accepted.ca
        if root is None or fmspc is None or ca is None:
            return self
        old = self.of(root, fmspc, ca)
        higher = {name: max(getattr(old, name), getattr(accepted, name) or 0) for name in SEEN}
        new = replace(old, **higher)
        others = [f for f in self.seen if (f.root_sha256, f.fmspc, f.ca) != (root, fmspc, ca)]
        return Floors((*others, new))
