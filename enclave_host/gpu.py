"""The accelerator's product on a GPU: int8 limbs on its matrix units, exact, bit for bit what
`enclave.masking.ring.Limbs` gives. Words and residues cross the bus as the three or four bytes that they are.
Runs on the site's host, outside every trust boundary; all of it runs on torch's `cpu` device, too, where the
tests try it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from enclave.masking.residues import Packed
from enclave.masking.ring import weigh

SUMS = 1 << 26
"""On a GPU one large product is faster than many small ones; this bounds its memory (256 MiB)."""


class OnDevice:
    """Multiplies words by weights that lie on a device as (outer, inner) int8."""

    def __init__(self, device: str) -> None:
        self._device = device

    def multiply(self, words: Packed, weight: Tensor, out: Packed) -> None:
        """(rows, inner) words × (outer, inner) int8 -> (rows, outer) residues of the same width."""
        low, high = self.residues(
            torch.from_numpy(words.low.view(np.int16)).to(self._device),
            torch.from_numpy(words.high).to(self._device),
            weight,
        )
        torch.from_numpy(out.low.view(np.int16)).copy_(low)
        torch.from_numpy(out.high).copy_(high)

    def residues(self, low: Tensor, high: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The same on the device: (rows, inner) int16, and int8 or int16, as `Packed` has them."""
        rows, inner = low.shape
        digits = [plane.view(torch.int8).view(rows, inner, -1).permute(2, 0, 1) for plane in (low, high)]
        planes = torch.cat(digits)
        stacked, limbs = planes.reshape(-1, inner), len(planes)
        width = max(1, SUMS // len(stacked))
        pieces = (_int_mm(stacked, piece) for piece in weight.split(width))
        total = torch.cat([weigh(sums.view(limbs, rows, -1)) for sums in pieces], dim=1)
        return total.to(torch.int16), (total >> 16).to(high.dtype)


def _int_mm(left: Tensor, weight: Tensor) -> Tensor:
    """left · weightᵀ. cuBLAS wants more than 16 rows and sizes that 8 divides; zeros fill up."""
    rows, inner = left.shape
    outer = weight.shape[0]
    missing = (max(24 - rows, -rows % 8), -inner % 8, -outer % 8)
    if any(missing):
        left = torch.nn.functional.pad(left, (0, missing[1], 0, missing[0]))
        weight = torch.nn.functional.pad(weight, (0, missing[1], 0, missing[2]))
    return torch._int_mm(left, weight.t())[:rows, :outer].contiguous()
