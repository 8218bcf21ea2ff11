"""What the site agent asks of a method. A package that has all of these is one; mypy holds it to that."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from contracts.agents_api.jobs import LeasedJob
from contracts.jobs import Result
from contracts.manifest import Manifest
from site_agent.leases import Lease
from site_agent.state import State
from site_agent.transport import Coordinator

RUN_OVER = {"run.not_active", "run.unknown"}
"""After these the run needs nothing of this site any more."""


class RunSession(Protocol):
    """This site's part in one run: what it runs for it, and whom it has verified."""

    manifest: Manifest

    def is_active(self) -> bool:
        """Whether the coordinator still has something for this run; in doubt, yes."""

    def attest_again(self) -> None:
        """Forget what was verified, or admitted: the next job begins with it."""

    def close(self) -> None:
        """End what runs for it; from any thread."""

    def forget(self) -> None:
        """The run is over: end what runs, and remove its files."""


class JobRunner(Protocol):
    """Does the jobs of one run, one at a time."""

    def do(self, job: LeasedJob, lease: Lease) -> Result:
        """Carry the job out.

        Raises: any code of the catalogue.
        """

    def prepare_next(self, job: LeasedJob, /) -> None:
        """After a job, in idle time: what the next one can be given ahead."""


class RunPart(NamedTuple):
    """How this site takes part in one run."""

    session: RunSession
    runner: JobRunner


class Method(Protocol):
    """A method of training, at a hospital."""

    def take_part(self, state: State, coordinator: Coordinator, run: str, manifest_hash: str, /) -> RunPart:
        """Begin with a run.

        Raises: `run.not_approved_here`: nothing is started, asked or loaded for such a manifest.
        """
