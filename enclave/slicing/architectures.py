"""What of the architecture table needs torch: whether a module may live inside.

Exact classes only. Every linear that the table does not keep inside goes out under pads, and everything that
it does not list is refused. Embedding tables of tokens stay with the agent, who hands the vectors in.
"""

from __future__ import annotations

from torch import nn

from contracts.architecture.family import Architecture

_ACTIVATIONS = ("GELUActivation", "GELUTanh", "NewGELUActivation", "FastGELUActivation", "SiLUActivation")
INSIDE_ANYWHERE = frozenset(
    {f"torch.nn.modules.{name}" for name in (
        "container.ModuleList", "dropout.Dropout", "linear.Identity", "normalization.LayerNorm",
        "activation.GELU", "activation.SiLU", "activation.Tanh", "activation.ReLU",
    )}
    | {f"transformers.activations.{name}" for name in _ACTIVATIONS}
    | {
        "enclave.slicing.split._AlreadyEmbedded",
        "enclave.slicing.split._NoPositions",
        "enclave.slicing.outsourced.OutsourcedLinear",
        "enclave.slicing.embeddings.GivenVectors",
        "enclave.slicing.lora.LoraLinear",
        "enclave.slicing.prefix.PrefixTuned",
    }
)  # fmt: skip


def permits(architecture: Architecture, module: nn.Module) -> bool:
    """Whether a module of exactly this class may live inside."""
    kind = type(module)
    own = f"transformers.models.{architecture.package}.modeling_{architecture.package}"
    return f"{kind.__module__}.{kind.__qualname__}" in INSIDE_ANYWHERE or (
        kind.__module__ == own and kind.__qualname__ in architecture.inside
    )
