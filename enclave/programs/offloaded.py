"""The placement `masked` of a client slice: before each round the pads of its batches are made (the offline
phase), and the accelerator is one of the host's processes, which may be started again at any time.

Runs inside the enclave; a client slice of another placement loads none of it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from contracts.manifest import Manifest, Masking, Spf
from contracts.refusal import Refusal
from contracts.round_kind import Kind
from enclave.programs.mailbox import PADS, PREPARED
from enclave.programs.placements import Measures, Placement, weight_bytes
from enclave.programs.program import Report
from enclave.programs.throttle import throttle
from enclave.slicing.cut import Cut, open_cut
from enclave.slicing.hollow import HollowBase
from enclave.slicing.placement import Masked, offload
from enclave.slicing.prepared import open_prepared
from enclave.slicing.shape import Shape
from enclave.training.loop import EVALUATION_BATCH, round_batches


def open_offloaded(manifest: Manifest, folder: Path, mailbox: Path) -> tuple[Any, HollowBase, Placement]:
    """The cut model with its adapter, its base, and the placement. `mailbox` is its folder, in which the host
    has put the prepared model.

    Raises: as `open_cut` and `open_prepared`; `manifest.invalid`.
    """
    adapter, spec, masking = manifest.adapter, manifest.model, manifest.masking
    if isinstance(adapter, Spf) or masking is None:
        raise Refusal("manifest.invalid", fault="a client slice has no part in method-2")
    base, prepared = HollowBase(folder, spec), open_prepared(mailbox / PREPARED, masking.prepared)
    first = 0 if manifest.front is None else manifest.front.first
    cut = open_cut(base, prepared, adapter, manifest.training.seed, first)
    return cut.model, base, OffloadedPlacement(cut, masking, mailbox / PADS, weight_bytes(folder, spec))


class OffloadedPlacement(Placement):
    """A cut model, and the accelerator of the moment: none until `accelerate`."""

    def __init__(self, cut: Cut, masking: Masking, pads: Path, model_bytes: int) -> None:
        super().__init__(model_bytes)
        self._cut, self._masking, self._pads = cut, masking, pads
        self._masked: Masked | None = None
        self._before: Measures = {}

    def accelerate(self, channel: Path, room: int) -> str:
        """Use the accelerator behind this channel from now on, with a fresh key and an empty vault: what
        it, or the one before it, was sent and has answered is of no use any more.

        Returns: how it calls itself.

        Raises: `accelerator.bad_channel`, `masking.weights_changed` or `masking.no_passes`.
        """
        self._masked, self._before = None, {}
        how, native = self._masking, self._masking.passes == "native"
        limits: dict[str, Any] = {"vault_bytes": min(how.vault_bytes, room), "repetitions": how.repetitions}
        self._masked = offload(self._cut, channel, self._pads, native=native, **limits)
        return self._masked.accelerator

    def begin(self, learner: Any, round: int, kind: Kind, report: Report) -> None:
        """Make the pads of the round's first batches, as many as the vault can hold; say how many bytes
        that will be before the first is made.

        Raises: `slice.not_accelerated`.
        """
        if self._masked is None:
            raise Refusal("slice.not_accelerated")
        self._masked.begin_round(round, _shapes(learner, round, kind), throttle(report))
        self._began = time.perf_counter()

    def measures(self) -> Measures:
        """See `Placement.measures`. Beside the common ones: what `Masked.measures` counts, since the last
        round was done; so what was prepared in idle time counts for the round that it is for."""
        common = super().measures()
        if self._masked is None:
            return common
        now = self._masked.measures()
        before, self._before = self._before, now
        spent = {name: round(now[name] - before.get(name, 0), 6) for name in now if name != "pads_left"}
        return {**spent, "pads_left": now["pads_left"], **common, "offline_seconds": spent["offline_seconds"]}


def _shapes(learner: Any, round: int, kind: Kind) -> list[Shape]:
    """Of a round's batches in their order: what is scored, then what is learnt."""
    scored, how = learner.test if kind == "test" else learner.validation, learner.manifest.training
    few = scored.evaluation_batches(EVALUATION_BATCH)
    shapes = [(batch.inputs["input_ids"].shape, False) for batch in few]
    learnt = round_batches(learner.training, how, round=round, site=learner.site) if kind == "update" else ()
    shapes += [(batch.inputs["input_ids"].shape, True) for pieces in learnt for batch, _ in pieces]
    return [Shape(rows, tokens, backward) for (rows, tokens), backward in shapes]
