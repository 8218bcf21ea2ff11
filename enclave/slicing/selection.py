"""SPF's choice: which units of a public weight are tuned. Whoever has the base model gets the same answer.

Norms are compared as exact integers, not as float sums whose last bits depend on the machine. Runs at the
sites, in the TEE and at the auditor's.

Source: SPF in arXiv 2401.09796, which chooses by L1 norm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from contracts.architecture.layers import LayerPart, Linear
from contracts.architecture.spf_size import count
from contracts.manifest import Select
from contracts.refusal import Refusal

_BLOCK_ELEMENTS = 1 << 22
_LOWEST = -149
"""Every finite float32 is a multiple of 2**-149 (IEEE 754)."""


def choose(weight: Tensor, linear: Linear, ratio: float, select: Select, seed: int, name: str) -> Tensor:
    """The rows of a matrix that are tuned, ascending.

    `count` units of each part, by their L1 norms, ties to the lower index; `random` ranks by SHA-256 of
    seed, `name` (the layer's in the whole model), part and unit.

    Args: `weight` (outputs, inputs) float32 or shorter; `ratio` in percent.

    Returns: (rows,) int64.

    Raises: `spf.bad_weight` or `spf.unexpected_layer`.
    """
    if tuple(weight.shape) != (linear.outputs, linear.inputs):
        raise Refusal("spf.unexpected_layer", layer=name)
    if not torch.isfinite(weight).all():
        raise Refusal("spf.bad_weight", layer=name)
    rows: list[int] = []
    start = 0
    for part in linear.parts:
        taken = count(ratio, part.units)
        if taken == part.units:
            chosen: Sequence[int] = range(part.units)
        else:
            chosen = _ranked(weight[start : start + part.rows], part, select, seed, name)[:taken]
        for unit in sorted(chosen):
            first = start + unit * part.size
            rows.extend(range(first, first + part.size))
        start += part.rows
    return torch.tensor(rows, dtype=torch.int64)


def _ranked(weight: Tensor, part: LayerPart, select: Select, seed: int, name: str) -> list[int]:
    """The units of a part, the first to take first."""
    if select == "random":
        return sorted(range(part.units), key=lambda unit: _draw(seed, name, part.name, unit))
    norms = exact_norms(weight.reshape(part.units, -1))
    sign = -1 if select == "largest" else 1
    return sorted(range(part.units), key=lambda unit: (sign * norms[unit], unit))


def _draw(seed: int, name: str, part: str, unit: int) -> bytes:
    return hashlib.sha256(f"fedslice/spf/{seed}/{name}/{part}/{unit}".encode()).digest()


def exact_norms(weight: Tensor) -> list[int]:
    """The L1 norm of each row of a finite float32 (or shorter) matrix, exactly, in units of 2**-149.

    Values are cut into limbs so narrow that a row's sum of limbs is an integer below 2**53: exact in
    float64 in any order of summing.

    Args: `weight` (rows, columns), finite, float32 or shorter.

    Returns: one integer a row, in units of 2**-149.
    """
    norms: list[int] = []
    step = max(1, _BLOCK_ELEMENTS // max(1, weight.shape[1]))
    for block in weight.detach().split(step):
        norms += _exact_norms(block.to("cpu", torch.float32))
    return norms


def _exact_norms(block: Tensor) -> list[int]:
    bits = 53 - max(1, (block.shape[1] - 1).bit_length())
    rest = block.double().abs_()
    sums = [0] * len(block)
    largest = float(rest.max()) if rest.numel() else 0.0
    unit = max(torch.frexp(torch.tensor(largest, dtype=torch.float64))[1].item() - bits, _LOWEST)
    while largest:
        limb = (rest * 2.0**-unit).floor_()
        rest -= limb * 2.0**unit
        for row, total in enumerate(limb.sum(1).tolist()):
            sums[row] += int(total) << (int(unit) - _LOWEST)
        largest = float(rest.max())
        unit = max(unit - bits, _LOWEST)
    return sums
