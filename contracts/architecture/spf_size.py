"""What SPF costs: exact counts from a configuration, before it is built.

Needs no weights and no torch, so that a form or a command line can show it at once. Runs anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from contracts.architecture.family import Role
from contracts.architecture.layers import check_cut, linears_of
from contracts.architecture.rows import row_of
from contracts.manifest import Spf
from contracts.refusal import Refusal


@dataclass(frozen=True)
class SpfSize:
    """Trained parameters: of `rows`, `lora` and `head`, in `tensors` tensors. `full` is what full tuning of
    the matrices with tuned rows would train."""

    rows: int
    lora: int
    head: int
    tensors: int
    full: int

    @property
    def parameters(self) -> int:
        """All trained parameters."""
        return self.rows + self.lora + self.head

    @property
    def optimizer_bytes(self) -> int:
        """AdamW's state: two float32 moments a parameter, and a float32 step count a tensor."""
        return 8 * self.parameters + 4 * self.tensors


def ratio_of(spf: Spf, role: Role) -> float:
    """The ratio for a linear of this role, in percent."""
    if role == "attention":
        return spf.attention
    return spf.dense if role in spf.rows else 0.0


def size_of(config: Any, spf: Spf, k: int, labels: int, *, tags: bool = False) -> SpfSize:
    """Count what `tune` trains in the tail after layer `k`. `labels` is 0 for a causal LM.

    For each of n − k layers: rows = Σ (taken units · rows of a unit · inputs), lora = Σ rank · (inputs +
    outputs). The head: d·labels (a decoder), or d² + d + (d + 1)·labels (an encoder).

    Raises: `split.bad_cut`, `spf.nothing` or `slicing.unknown_architecture`.
    """
    check_cut(config, k)
    rows = full = lora = tensors = 0
    for linear in linears_of(config):
        taken = sum(count(ratio_of(spf, linear.role), part.units) * part.size for part in linear.parts)
        if taken:
            rows, full = rows + taken * linear.inputs, full + linear.outputs * linear.inputs
            tensors += 1
        if linear.role in spf.lora:
            lora, tensors = lora + spf.rank * (linear.inputs + linear.outputs), tensors + 2
    layers = config.num_hidden_layers - k
    if not layers * (rows + lora):
        raise Refusal("spf.nothing")
    head, head_tensors = head_of(config, labels, tags=tags)
    return SpfSize(layers * rows, layers * lora, head, layers * tensors + head_tensors, layers * full)


def count(ratio: float, units: int) -> int:
    """How many of `units` a ratio in percent takes: round half up, at least one; 0 % takes none.

    The ratio is the decimal number that people wrote, not the binary one beside it.
    """
    if ratio == 0:
        return 0
    return max(1, int(Fraction(repr(float(ratio))) * units / 100 + Fraction(1, 2)))


def head_of(config: Any, labels: int, *, tags: bool = False) -> tuple[int, int]:
    """Parameters of the classification head, and the tensors that they are in: one matrix on a decoder; on
    an encoder a square layer with a bias before the labels' own. (0, 0) for a causal LM, of which `labels`
    is 0. Of `tags` it is one layer with a bias.

    Raises: `slicing.unknown_architecture`.
    """
    if not labels:
        return 0, 0
    width = config.hidden_size
    if tags:
        return width * labels + labels, 2
    if row_of(config).writes:
        return width * labels, 1
    return width * labels + labels + width * width + width, 4
