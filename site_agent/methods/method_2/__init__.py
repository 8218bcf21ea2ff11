"""Method 2: the hospital's agent computes features by a public front, and brings them once, sealed."""

from __future__ import annotations

from site_agent.methods.interface import RunPart
from site_agent.methods.method_2.job_runner import SplitJobRunner
from site_agent.methods.method_2.run_session import SplitRunSession
from site_agent.state import State
from site_agent.transport import Coordinator


def take_part(state: State, coordinator: Coordinator, run: str, manifest_hash: str) -> RunPart:
    """Nothing runs for it outside of a job."""
    session = SplitRunSession(state, coordinator, run, manifest_hash)
    return RunPart(session, SplitJobRunner(state, coordinator, session))
