"""The store of a cut model, as it is written: layer after layer, each as it comes. No enclave loads this."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from enclave.masking.layers import WEIGHTS, StoredLayer
from enclave.masking.residues import WIDTHS
from enclave_host.preparing.quantising import fix_weight, parts


class StoreWriter:
    """Makes a store in `folder`; without one, only its description. `widths` are the bytes that residues may
    have (benchmarks compare)."""

    def __init__(self, folder: Path | None, widths: Sequence[int] = WIDTHS) -> None:
        self._folder, self._widths = folder, widths
        self.layers: list[StoredLayer] = []
        self.scales: dict[str, Tensor] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / WEIGHTS).write_bytes(b"")

    def add(self, name: str, weight: Iterable[Tensor], outputs: int) -> None:
        """Make a layer's weights fixed-point, and write them.

        Args: `weight` (outputs, inputs) float, some rows at a time.

        Raises: `masking.bad_weight`.
        """
        fixed = fix_weight(weight, outputs)
        data = fixed.values.numpy().data
        if self._folder is not None:
            with (self._folder / WEIGHTS).open("ab") as file:
                file.write(data)
        forward, backward = (parts(turned, self._widths) for turned in (fixed.values, fixed.values.t()))
        outputs, inputs = fixed.values.shape
        sha256 = hashlib.sha256(data).hexdigest()
        self.layers.append(StoredLayer(name, outputs, inputs, sha256, forward, backward))
        self.scales[name] = fixed.scale
