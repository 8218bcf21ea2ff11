"""What the conductor asks of a method. A module that has all of these is one; mypy holds it to that."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.sealed.escrow import Escrow
from enclave_jobs.conductor.questions import ClosingCall
from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.jobs.models import JobKind
from enclave_jobs.runs.models import Contribution, Round, Run
from enclave_jobs.supervisor.protocol import Model

JoinJobs = dict[JobKind, dict[str, Escrow | None]]
"""What sites are asked to do that they join: for each kind of `models.JOINS` the sites' ids, each
with its share of the state's key where it brings one back."""


class Method(Protocol):
    """Each verb may be called twice for the same thing, as the steps that call them."""

    @property
    def queue(self) -> str:
        """Which workers take the steps of its runs (enclave_jobs/queues.py)."""

    # What a site is asked.

    def join_jobs(self, run: Run, sites: list[str], /) -> JoinJobs:
        """How these sites come to the run's present enclave."""

    def least_present(self, manifest: Manifest, /) -> int:
        """How many members must be present before rounds begin: a quorum or more."""

    def enrol(self, round: Round, sites: list[str], /) -> None:
        """Give sites that have joined their places in a round; inside the caller's transaction."""

    def offer_jobs(self, round: Round, /) -> None:
        """Ask the contributors of an open round for what is still to come of them, on behalf of the present
        enclave."""

    # How a round closes.

    def is_good(self, contribution: Contribution, /) -> bool:
        """Have the enclave look into what was submitted; false while it is at it.

        Raises: the enclave's verdict.
        """

    def note_refusal(self, contribution: Contribution, code: str, /) -> None:
        """Note what follows beyond this round from the enclave's verdict on a contribution."""

    def ask_again(self, round: Round, /) -> None:
        """A round waits for countersignatures, and may do so on behalf of another enclave than it began
        with."""

    def question(self, round: Round, /) -> ClosingCall:
        """What the enclave is asked once all listed sites have signed."""

    def answered(self, round: Round, refusal: Refusal, /) -> bool:
        """The enclave refused that question: whether the method could do something about it, so that the
        round goes on (or was given up)."""

    # What is restored.

    def prepare(self, run: Run, enclave: Enclave, manifest: Manifest, /) -> bool:
        """Have an enclave that is bound load what it needs before a state is restored; whether it has."""

    def enclave_lost(self, round: Round, /) -> None:
        """The run's enclave is gone: what becomes of its last round. Inside the caller's transaction."""

    def may_release(
        self, run: Run, enclave: Enclave, manifest: Manifest, approved_by: Collection[str], /
    ) -> bool:
        """Whether an enclave that was started to release has the last published state. `approved_by` are the
        sites that have signed for it."""

    def release_files(self, manifest: Manifest, /) -> Model | None:
        """What an enclave needs of the base model that it can write released parameters down."""
