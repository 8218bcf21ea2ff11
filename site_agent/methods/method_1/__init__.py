"""Method 1: the hospital's enclave trains on its rows, and what it tuned goes to the aggregator, sealed."""

from __future__ import annotations

from site_agent.methods.interface import Part
from site_agent.methods.method_1.membership import Membership
from site_agent.methods.method_1.work import Work
from site_agent.state import State
from site_agent.transport import Coordinator


def take_part(state: State, coordinator: Coordinator, run: str, manifest_hash: str) -> Part:
    """A client slice is started with the first job."""
    membership = Membership(state, coordinator, run, manifest_hash)
    return Part(membership, Work(state, coordinator, membership))
