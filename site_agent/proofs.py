"""What must stand in the log before this site signs or seals: a missing proof is a refusal.

What is in the log can be hidden from nobody who follows it, so a coordinator that shows one hospital another
manifest, enclave or roster than the others has to do it in public.
"""

from __future__ import annotations

import msgspec

from contracts.evidence import Claims
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.roster import Roster, parse_roster
from site_agent.state import State
from site_agent.transport import Coordinator
from site_agent.witness import LogWitness

APPRAISED = ("manifest", "program", "hpke_key", "signing_key")


def require_manifest(state: State, coordinator: Coordinator, manifest: Manifest) -> None:
    """Before the manifest is approved. Refuses as `LogWitness.require`."""
    body = LogWitness.of(state).require(coordinator, manifest, "manifest")
    if (body.get("manifest"), body.get("run")) != (manifest.hash, manifest.run):
        raise Refusal("log.wrong_entry", kind="manifest")


def require_appraisal(state: State, coordinator: Coordinator, manifest: Manifest, claims: Claims) -> None:
    """Before anything is sealed to the enclave with these keys: it was accepted in public. Refuses as
    `LogWitness.require`."""
    body = LogWitness.of(state).require(coordinator, manifest, "appraisal", key=claims.signing_key)
    shown, appraisal = body.get("claims"), body.get("appraisal")
    own = msgspec.to_builtins(claims)
    same = isinstance(shown, dict) and all(shown.get(name) == own[name] for name in APPRAISED)
    if not same or not isinstance(appraisal, dict) or appraisal.get("verdict") != "accepted":
        raise Refusal("log.wrong_entry", kind="appraisal")


def require_roster(state: State, coordinator: Coordinator, manifest: Manifest, roster: Roster) -> None:
    """Before the roster is countersigned. Refuses as `LogWitness.require`."""
    body = LogWitness.of(state).require(coordinator, manifest, "roster.fixed", round=roster.round)
    if parse_roster(body.get("roster") or {}) != roster:
        raise Refusal("log.wrong_entry", kind="roster.fixed")
