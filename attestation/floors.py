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


class Floors(Struct, frozen=True, forbid_unknown_fields=True):
    """All floors of one relying party. Starts empty; a value, never changed in place."""

    seen: tuple[Floor, ...] = ()

    def of(self, root_sha256: str, fmspc: str, ca: str) -> Floor:
        """The floor for one kind of platform. A CA's CRL serves all its platforms, the root's all."""
        under_root = [floor for floor in self.seen if floor.root_sha256 == root_sha256]
        under_ca = [floor for floor in under_root if floor.ca == ca]
        own = [floor for floor in under_ca if floor.fmspc == fmspc]
        return Floor(
            root_sha256,
            fmspc,
            ca,
            tcb_evaluation=max((floor.tcb_evaluation for floor in own), default=0),
            qe_evaluation=max((floor.qe_evaluation for floor in own), default=0),
            root_ca_crl_number=max((floor.root_ca_crl_number for floor in under_root), default=0),
            pck_crl_number=max((floor.pck_crl_number for floor in under_ca), default=0),
            tcb_info_issued=max((floor.tcb_info_issued for floor in own), default=0),
            qe_identity_issued=max((floor.qe_identity_issued for floor in own), default=0),
            root_ca_crl_issued=max((floor.root_ca_crl_issued for floor in under_root), default=0),
            pck_crl_issued=max((floor.pck_crl_issued for floor in under_ca), default=0),
        )

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
        new = replace(
            old,
            tcb_evaluation=max(old.tcb_evaluation, accepted.tcb_evaluation or 0),
            qe_evaluation=max(old.qe_evaluation, accepted.qe_evaluation or 0),
            root_ca_crl_number=max(old.root_ca_crl_number, accepted.root_ca_crl_number or 0),
            pck_crl_number=max(old.pck_crl_number, accepted.pck_crl_number or 0),
        )
        others = [f for f in self.seen if (f.root_sha256, f.fmspc, f.ca) != (root, fmspc, ca)]
        return Floors((*others, new))
