"""Releases, and models to be served, that ask for a site's signature or have it; and the signature."""

from __future__ import annotations

from msgspec import Struct

from contracts.agents_api.endpoint import Endpoint, MaybeSignedJson, SignedJson
from contracts.evidence import Evidence
from contracts.manifest import Identifier
from contracts.policy import Hex32
from contracts.program_calls import Nothing
from contracts.releases import ApprovedRule, ReleaseApproval


class ReleaseItem(Struct, frozen=True):
    """`rule` is `serve-only` where the model is to be served. `receipt` is the signed receipt whose
    parameters are asked for; `statement` and `evidence` are there once the enclave has released them. `found`
    of the `needed` approvals that count are there; `signed` says whether this one has."""

    run: str
    study: str
    manifest_hash: str
    rule: str
    state: str
    receipt: SignedJson
    found: int
    needed: int
    signed: bool
    kept: bool
    statement: MaybeSignedJson
    evidence: Evidence | None


class ReleaseApprovalBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The site's approval (contracts/releases.py) for the parameters after the receipt with this hash."""

    run: Identifier
    rule: ApprovedRule
    receipt: Hex32
    approval: ReleaseApproval


RELEASES = Endpoint("GET", "releases", Nothing, list[ReleaseItem])
APPROVE_RELEASE = Endpoint("POST", "releases", ReleaseApprovalBody, ReleaseItem)
