"""Method 1: the hospital's enclave trains on its rows, and what it tuned goes to the aggregator, sealed."""

from __future__ import annotations

from site_agent.methods.interface import RunPart
from site_agent.methods.method_1.job_runner import JobRunner
from site_agent.methods.method_1.run_session import RunSession
from site_agent.state import State
from site_agent.transport import Coordinator


def take_part(state: State, coordinator: Coordinator, run: str, manifest_hash: str) -> RunPart:
    """A client slice is started with the first job."""
    session = RunSession(state, coordinator, run, manifest_hash)
    return RunPart(session, JobRunner(state, coordinator, session))
