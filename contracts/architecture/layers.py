"""The layer table: what stands where in one layer of each architecture, in the shapes that Method 2 needs.

It stands beside the architecture table (`slicing.architectures`) and has the same rows. A linear is a list of
*parts*, blocks of output rows that are chosen from one by one: a fused QKV projection has three, so it is
treated as three separate ones are. A part has `units`, what SPF takes or leaves: an attention head of Q, a
key-value head of K or V (which serves a whole group under grouped-query attention), or a single row.
All of it follows from the model's configuration. Pure; runs on every side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from contracts.refusal import Refusal

Role = Literal["attention", "attention_output", "dense"]


@dataclass(frozen=True)
class Part:
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
    parts: tuple[Part, ...]

    @property
    def outputs(self) -> int:
        """Output rows of all parts."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True)
class LayerRow:
    """`layers` is the place of the layers in the backbone, `norm` of the norm after them, `drop` of a dropout
    before them; `tables` are what comes before the first layer. `linears` are (path, role, inputs, parts)."""

    layers: str
    norm: str | None
    drop: str | None
    linears: tuple[tuple[str, Role, str, tuple[str, ...]], ...]


def _llama(gates: tuple[tuple[str, tuple[str, ...]], ...]) -> LayerRow:
    return LayerRow("layers", "norm", None, (
        ("self_attn.q_proj", "attention", "hidden", ("q",)),
        ("self_attn.k_proj", "attention", "hidden", ("k",)),
        ("self_attn.v_proj", "attention", "hidden", ("v",)),
        ("self_attn.o_proj", "attention_output", "context", ("hidden",)),
        *((path, "dense", "hidden", parts) for path, parts in gates),
        ("mlp.down_proj", "dense", "intermediate", ("hidden",)),
    ))  # fmt: skip


_SEPARATE = (("mlp.gate_proj", ("gate",)), ("mlp.up_proj", ("up",)))
LAYERS = {
    "bert": LayerRow("encoder.layer", None, None, (
        ("attention.self.query", "attention", "hidden", ("q",)),
        ("attention.self.key", "attention", "hidden", ("k",)),
        ("attention.self.value", "attention", "hidden", ("v",)),
        ("attention.output.dense", "attention_output", "context", ("hidden",)),
        ("intermediate.dense", "dense", "hidden", ("up",)),
        ("output.dense", "dense", "intermediate", ("hidden",)),
    )),
    "gpt2": LayerRow("h", "ln_f", "drop", (
        ("attn.c_attn", "attention", "hidden", ("q", "k", "v")),
        ("attn.c_proj", "attention_output", "context", ("hidden",)),
        ("mlp.c_fc", "dense", "hidden", ("up",)),
        ("mlp.c_proj", "dense", "intermediate", ("hidden",)),
    )),
    "llama": _llama(_SEPARATE),
    "qwen3": _llama(_SEPARATE),
    "glm4": _llama((("mlp.gate_up_proj", ("gate", "up")),)),
}  # fmt: skip


def row_of(config: Any) -> LayerRow:
    """The row of a model's configuration. Refuses with `slicing.unknown_architecture`."""
    found = str(getattr(config, "model_type", type(config).__name__))
    if found not in LAYERS:
        raise Refusal("slicing.unknown_architecture", found=found[:80], supported=", ".join(LAYERS))
    return LAYERS[found]


def linears_of(config: Any) -> tuple[Linear, ...]:
    """The linears of one layer with their shapes. Refuses with `slicing.unknown_architecture`."""
    row = row_of(config)
    hidden, heads = config.hidden_size, config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or hidden // heads
    wide = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * hidden
    inputs = {"hidden": hidden, "context": heads * size, "intermediate": wide}
    parts = {
        "q": Part("q", heads, size),
        "k": Part("k", groups, size),
        "v": Part("v", groups, size),
        "gate": Part("gate", wide, 1),
        "up": Part("up", wide, 1),
        "hidden": Part("hidden", hidden, 1),
    }
    return tuple(
        Linear(path, role, inputs[source], tuple(parts[name] for name in names))
        for path, role, source, names in row.linears
    )


def check_cut(config: Any, k: int) -> None:
    """Refuse (`split.bad_cut`) a cut that is not after a layer, or at 0 before the first."""
    layers = config.num_hidden_layers
    if not 0 <= k <= layers:
        raise Refusal("split.bad_cut", k=k, layers=layers)
