"""Where a client slice's frozen layers are multiplied, and what that cost in a round.

`Inside` is the placement `all_in_tee`, `Outside` the placement `masked`: before each round the pads of its
batches are made (the offline phase), and the accelerator is one of the host's processes, which may be started
again at any time. Both measure in the same words, so that runs can be compared. Runs inside the enclave.
"""

from __future__ import annotations

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from contracts.manifest import Masking
from contracts.refusal import Refusal
from enclave.programs.program import Report
from enclave.slicing.cut import Cut
from enclave.slicing.memory import peak_memory
from enclave.slicing.placement import Masked, Preparation, Shape, put_out

REPORT_SECONDS = 0.5
KEPT_FREE = 1 << 30
"""Bytes of the host's disk that pads leave alone."""

Measures = dict[str, int | float]


class Placement(ABC):
    """Seconds are wall-clock seconds inside; `peak_memory` and `model_bytes` are bytes."""

    def __init__(self, model_bytes: int) -> None:
        self._model_bytes = model_bytes
        self._began = time.perf_counter()

    def accelerate(self, channel: Path) -> str:
        """Use the accelerator behind this channel from now on; returns how it calls itself. Refuses with
        `slice.no_accelerator` where the placement needs none."""
        raise Refusal("slice.no_accelerator")

    @abstractmethod
    def begin(self, round: int, shapes: Sequence[Shape], report: Report) -> None:
        """Get ready for a round's batches."""

    def measures(self) -> Measures:
        """What the round has cost since `begin`: numbers that say nothing about rows or parameters."""
        return {
            "online_seconds": round(time.perf_counter() - self._began, 6),
            "offline_seconds": 0.0,
            "peak_memory": peak_memory(),
            "model_bytes": self._model_bytes,
        }


class Inside(Placement):
    """All of the model is here; there is nothing to prepare."""

    def begin(self, round: int, shapes: Sequence[Shape], report: Report) -> None:
        """See `Placement.begin`."""
        self._began = time.perf_counter()


class Outside(Placement):
    """A cut model, and the accelerator of the moment: none until `accelerate`."""

    def __init__(self, cut: Cut, masking: Masking, pads: Path, model_bytes: int) -> None:
        super().__init__(model_bytes)
        self._cut, self._masking, self._pads = cut, masking, pads
        self._masked: Masked | None = None
        self._before: Measures = {}

    def accelerate(self, channel: Path) -> str:
        """Use the accelerator behind this channel from now on, with a fresh key and an empty vault: what it,
        or the one before it, was sent and has answered is of no use any more. Returns how it calls itself.

        Refuses with `accelerator.bad_channel` or `masking.weights_changed`.
        """
        self._masked, self._before = None, {}
        self._masked = put_out(
            self._cut,
            channel,
            self._pads,
            vault_bytes=self._masking.vault_bytes,
            repetitions=self._masking.repetitions,
        )
        return self._masked.accelerator

    def begin(self, round: int, shapes: Sequence[Shape], report: Report) -> None:
        """Make the pads of the round's first batches, as many as vault and disk can hold; say how many bytes
        that will be before the first is made. Refuses with `slice.not_accelerated`."""
        if self._masked is None:
            raise Refusal("slice.not_accelerated")
        self._masked.begin_round(round, shapes, _sparing(report), room=_room(self._pads))
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


def _room(folder: Path) -> int:
    """Bytes that the host's disk has for pads; it may lie, and would only hinder itself."""
    try:
        return max(shutil.disk_usage(folder).free - KEPT_FREE, 0)
    except OSError:  # Gramine may not tell
        return 1 << 62


def _sparing(report: Report) -> Callable[[Preparation], None]:
    """Pass on the beginning, the end, and at most one line every REPORT_SECONDS between."""
    last = 0.0

    def tell(now: Preparation) -> None:
        nonlocal last
        if now.layers not in (0, now.of_layers) and time.monotonic() - last < REPORT_SECONDS:
            return
        last = time.monotonic()
        report(
            {
                "stage": "making pads",
                "done": now.layers,
                "of": now.of_layers,
                "bytes": now.bytes,
                "batches": now.batches,
                "of_batches": now.of_batches,
            }
        )

    return tell
