"""What stands in one layer of a model, in the shapes that SPF and the costs need.

A linear is a list of *parts*, blocks of output rows that are chosen from one by one: a fused QKV projection
has three, so it is treated as three separate ones are. A part has `units`, what SPF takes or leaves: an
attention head of Q, a key-value head of K or V (which serves a whole group under grouped-query attention), or
a single row. All of it follows from the model's configuration and its row of the architecture table. Pure;
runs on every side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.architecture.family import Role
from contracts.architecture.rows import row_of
from contracts.refusal import Refusal


@dataclass(frozen=True)
class LayerPart:
    """`units` units of `size` rows each, one after the other."""

    name: str
    units: int
    size: int

    @property
    def rows(self) -> int:
        """Output rows of the part."""
        return self.units * self.size


@dataclass(frozen=True)
class Linear:
    """A linear of a layer. `path` is its place in the layer; its weight is (outputs, inputs), also where the
    model keeps it the other way round (Conv1D)."""

    path: str
    role: Role
    inputs: int
    parts: tuple[LayerPart, ...]

    @property
    def outputs(self) -> int:
        """Output rows of all parts."""
        return sum(part.rows for part in self.parts)


def linears_of(config: Any) -> tuple[Linear, ...]:
    """The linears of one layer with their shapes.

    Raises: `slicing.unknown_architecture`.
    """
    row = row_of(config)
    hidden, heads = config.hidden_size, config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or hidden // heads
    sizes = (getattr(config, name, None) for name in ("intermediate_size", "hidden_dim", "n_inner"))
    wide = next((found for found in sizes if found), 4 * hidden)
    inputs = {"hidden": hidden, "context": heads * size, "intermediate": wide}
    parts = {
        "q": LayerPart("q", heads, size),
        "k": LayerPart("k", groups, size),
        "v": LayerPart("v", groups, size),
        "gate": LayerPart("gate", wide, 1),
        "up": LayerPart("up", wide, 1),
        "hidden": LayerPart("hidden", hidden, 1),
    }
    return tuple(
        Linear(path, role, inputs[source], tuple(parts[name] for name in names))
        for path, role, source, names in row.linears
    )


def check_cut(config: Any, k: int) -> None:
    """Refuse (`split.bad_cut`) a cut that is not after a layer, or at 0 before the first.

    Raises: `split.bad_cut`.
    """
    layers = config.num_hidden_layers
    if not 0 <= k <= layers:
        raise Refusal("split.bad_cut", k=k, layers=layers)
