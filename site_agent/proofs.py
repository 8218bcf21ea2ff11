"""What must stand in the log before this site signs or seals: a missing proof is a refusal.

What is in the log can be hidden from nobody who follows it, so a coordinator that shows one hospital another
manifest, enclave or roster than the others has to do it in public.
"""

from __future__ import annotations

from contracts.evidence import Claims
from contracts.log.proof import Logged
from contracts.log.relied_on import require_appraisal_entry, require_manifest_entry
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.roster import Roster, parse_roster
from site_agent.state import State
from site_agent.transport import Coordinator
from site_agent.witness import LogWitness


def require_manifest(state: State, coordinator: Coordinator, manifest: Manifest) -> Logged:
    """Before the manifest is approved; the proof.

    Raises: as `LogWitness.require`.
    """
    body, logged = LogWitness.of(state).require(coordinator, manifest, "manifest")
    require_manifest_entry(body, manifest)
    return logged


def require_appraisal(state: State, coordinator: Coordinator, manifest: Manifest, claims: Claims) -> Logged:
    """Before anything is sealed to the enclave with these keys: it was accepted in public; the proof.

    Raises: as `LogWitness.require`.
    """
    key = claims.signing_key
    body, logged = LogWitness.of(state).require(coordinator, manifest, "appraisal", key=key)
    require_appraisal_entry(body, claims)
    return logged


def require_roster(state: State, coordinator: Coordinator, manifest: Manifest, roster: Roster) -> None:
    """Before the roster is countersigned.

    Raises: as `LogWitness.require`.
    """
    body, _ = LogWitness.of(state).require(coordinator, manifest, "roster.fixed", round=roster.round)
    if parse_roster(body.get("roster") or {}) != roster:
        raise Refusal("log.wrong_entry", kind="roster.fixed")
