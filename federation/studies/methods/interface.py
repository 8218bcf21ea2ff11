"""What planning asks of a method. A module that has all of these is one; mypy holds it to that."""

from __future__ import annotations

from typing import Any, Protocol

from contracts.manifest import Adapter, PublicFront, Split
from contracts.policy import Program
from federation.studies.plan import Plan
from federation.studies.workload import Workload


class Method(Protocol):
    @property
    def programs(self) -> tuple[Program, ...]:
        """The enclave programs of its runs: a policy accepts references for each."""

    @property
    def serves(self) -> bool:
        """Whether its server program can answer questions with the tuned model."""

    @property
    def has_ratios(self) -> bool:
        """Whether a plan has ratios and a cut, of which a sweep tries several."""

    # What a plan is frozen to.

    def adapter(self, plan: Plan, /) -> Adapter:
        """What the plan tunes.

        Raises: `study.unknown_model` or `study.bad_targets`.
        """

    def positions(self, plan: Plan, /) -> int:
        """How many of the model's positions are taken from the texts."""

    def split(self, plan: Plan, sites: int, /) -> Split | None:
        """Where the model is cut, and who holds the state's key; for this many sites."""

    def computes_again(self, plan: Plan, /) -> bool:
        """Whether client slices compute activations again in the backward pass."""

    def front(self, plan: Plan, /) -> PublicFront | None:
        """Which layers the sites' own machines compute in clear.

        Raises: `study.unknown_model` or `front.no_layer`.
        """

    # What it costs (federation/studies/costs.py). `config` is the model's, and `parameters` how many it has.

    def memory(self, config: Any, parameters: int, work: Workload, trained: int, /) -> tuple[int, int]:
        """Peak bytes of the largest enclave, and of what stands beside it at a hospital: the process that
        runs a front, the accelerator (federation/studies/memory.py)."""

    def traffic(self, config: Any, work: Workload, trained: int, /) -> tuple[int, int]:
        """Bytes up and down of the largest site over the run, at most; `trained` parameters."""

    def kept(self, config: Any, work: Workload, /) -> int:
        """Bytes of features of texts of full length on the largest site's disk."""

    def rows_in_turn(self, work: Workload, /) -> int:
        """How many rows one machine works on, one after the other, on the way that decides the time."""
