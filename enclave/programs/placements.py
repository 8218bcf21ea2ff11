"""Where a client slice's frozen layers are multiplied, and what that cost in a round.

`Inside` is the placement `all_in_tee`; the placement `masked` stands in outside.py. Both measure in the same
words, so that runs can be compared. Runs inside the enclave.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from contracts.round_kind import Kind
from enclave.programs.program import Report
from enclave.slicing.memory import peak_memory

Measures = dict[str, int | float]


def weight_bytes(folder: Path, spec: ModelSpec) -> int:
    """Bytes of the base model's weights, once it is seen that its files are there."""
    return sum((folder / name).stat().st_size for name in spec.files if name.endswith(".safetensors"))


class Placement(ABC):
    """Seconds are wall-clock seconds inside; `peak_memory` and `model_bytes` are bytes."""

    def __init__(self, model_bytes: int) -> None:
        self._model_bytes = model_bytes
        self._began = time.perf_counter()

    def accelerate(self, channel: Path, room: int) -> str:
        """Use the accelerator behind this channel from now on; returns how it calls itself. `room` is what
        the host gives for pads, in bytes.

        Raises: `slice.no_accelerator` where the placement needs none.
        """
        raise Refusal("slice.no_accelerator")

    @abstractmethod
    def begin(self, learner: Any, round: int, kind: Kind, report: Report) -> None:
        """Get ready for a round's batches, which are the learner's."""

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

    def begin(self, learner: Any, round: int, kind: Kind, report: Report) -> None:
        """See `Placement.begin`."""
        self._began = time.perf_counter()
