"""Operations of a client slice in the placement `masked`: it is given an accelerator, and gets ready ahead.

Loaded once a manifest is bound that has this placement. Runs inside the client slice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from contracts.masked_calls import ACCELERATE, PREPARE, AccelerateArguments, Accelerated, PreparePadsArguments
from contracts.program_calls import Nothing
from contracts.refusal import Refusal
from contracts.round_kind import kind_of
from enclave.programs.client_rounds import ClientRounds
from enclave.programs.program import Operation, Report, operations


def offered(client_rounds: Callable[[], ClientRounds], folder: Path) -> dict[str, Operation]:
    """`client_rounds` gives the slice's rounds, or refuses with `slice.not_loaded`; `folder` is the
    mailbox's."""

    def accelerate(arguments: AccelerateArguments, _report: Report) -> Accelerated:
        """Use the accelerator behind this channel from now on, with `room` bytes of pads at most; how it
        calls itself.

        Raises: `accelerator.bad_channel` or `masking.weights_changed`.
        """
        placement = client_rounds().learner.placement
        return Accelerated(placement.accelerate(folder / arguments.channel, arguments.room))

    def prepare(arguments: PreparePadsArguments, report: Report) -> Nothing:
        """In idle time: make the pads of a coming round, which then begins at once.

        Raises: `round.finished`, `round.out_of_order` or `slice.not_accelerated`.
        """
        held, round = client_rounds(), arguments.round
        manifest = held.learner.manifest
        if round > manifest.last_round:
            raise Refusal("round.finished", rounds=manifest.training.rounds)
        if round < held.round:
            raise Refusal("round.out_of_order", asked=round, expected=held.round)
        held.learner.get_ready(round, kind_of(manifest, round), report)
        return Nothing()

    return operations(Operation(ACCELERATE, accelerate), Operation(PREPARE, prepare))
