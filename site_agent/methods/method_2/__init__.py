"""Method 2: the hospital's agent computes features by a public front, and brings them once, sealed."""

from __future__ import annotations

from site_agent.methods.interface import Part
from site_agent.methods.method_2.membership import SplitMembership
from site_agent.methods.method_2.work import SplitWork
from site_agent.state import State
from site_agent.transport import Coordinator


def take_part(state: State, coordinator: Coordinator, run: str, manifest_hash: str) -> Part:
    """Nothing runs for it outside of a job."""
    membership = SplitMembership(state, coordinator, run, manifest_hash)
    return Part(membership, SplitWork(state, coordinator, membership))
