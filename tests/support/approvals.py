"""Approvals of the hospitals that tests make up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from contracts.approvals import Approval, approval_payload
from contracts.manifest import APPROVAL_DOMAIN, Manifest
from contracts.releases import ReleaseApproval, approve_release
from contracts.signing import SigningKey
from tests.support.keys import approval_key


def approve(digest: str, site: str, agent: SigningKey, confirmed: Iterable[str]) -> Approval:
    """This hospital's approval of the manifest with this hash; `agent` is its agent's key."""
    known = tuple(sorted(confirmed))
    return Approval(known, approval_key(agent).sign(APPROVAL_DOMAIN, approval_payload(digest, site, known)))


def members(manifest: Manifest) -> tuple[str, ...]:
    return tuple(site.id for site in manifest.sites)


def approvals(
    manifest: Manifest, agents: Mapping[str, SigningKey], **knows: Iterable[str]
) -> dict[str, Approval]:
    """Each hospital's, by its agent's key. It has confirmed all members, or those that `knows` gives it."""
    return {
        site: approve(manifest.hash, site, key, knows.get(site, members(manifest)))
        for site, key in agents.items()
    }


def release_approval(
    manifest: Manifest,
    receipt: str,
    site: str,
    agent: SigningKey,
    hpke_key: str | None = None,
    knows: Iterable[str] | None = None,
    rule: str | None = None,
) -> ReleaseApproval:
    """The order of a hospital that has confirmed all members, or those whom it `knows`."""
    known = members(manifest) if knows is None else tuple(knows)
    return approve_release(manifest, receipt, site, approval_key(agent), known, hpke_key, rule)
