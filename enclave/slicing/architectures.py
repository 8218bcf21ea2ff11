"""The architecture table: which models can be cut, and what of them runs where.

A row says which class names of the architecture's own module may live inside the enclave, which linears share
their input and so make one trip, and which small frozen tables stay inside. Every other linear goes out under
pads, and everything that the table does not list is refused: a new operation has to be looked at by a person
before it runs beside secrets. Embedding tables of tokens stay with the agent, who hands the vectors in.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from contracts.refusal import Refusal

_ACTIVATIONS = ("GELUActivation", "NewGELUActivation", "FastGELUActivation", "SiLUActivation")
INSIDE_ANYWHERE = frozenset(
    {f"torch.nn.modules.{name}" for name in (
        "container.ModuleList", "dropout.Dropout", "normalization.LayerNorm", "activation.GELU",
        "activation.SiLU", "activation.Tanh", "activation.ReLU",
    )}
    | {f"transformers.activations.{name}" for name in _ACTIVATIONS}
    | {
        "enclave.slicing.outsourced.OutsourcedLinear",
        "enclave.slicing.embeddings.HandedIn",
        "enclave.slicing.lora.LoraLinear",
        "enclave.slicing.prefix.PrefixTuned",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """`model_type` is transformers' name; `inside` are class names in its modeling module; `together` are
    names of sibling linears with one input; `tables` are frozen embeddings that stay inside; `backbone` is
    the attribute that holds the layers; `token_table` is the embedding's place in the backbone."""

    name: str
    model_type: str
    inside: frozenset[str]
    together: tuple[tuple[str, ...], ...]
    tables: frozenset[str]
    backbone: str
    token_table: str

    def permits(self, module: nn.Module) -> bool:
        """Whether a module of exactly this class may live inside."""
        kind = type(module)
        own = f"transformers.models.{self.model_type}.modeling_{self.model_type}"
        return f"{kind.__module__}.{kind.__qualname__}" in INSIDE_ANYWHERE or (
            kind.__module__ == own and kind.__qualname__ in self.inside
        )


def _decoder(name: str, model_type: str, prefix: str, *extra: str, together: bool = True) -> Architecture:
    parts = ("ForCausalLM", "ForSequenceClassification", "Model", "DecoderLayer", "Attention", "MLP",
             "RMSNorm", "RotaryEmbedding", *extra)  # fmt: skip
    gates = (("gate_proj", "up_proj"),) if together else ()
    return Architecture(
        name, model_type, frozenset(prefix + part for part in parts), (("q_proj", "k_proj", "v_proj"),
        *gates), frozenset(), "model", "embed_tokens",
    )  # fmt: skip


_BERT = ("ForSequenceClassification", "Model", "Embeddings", "Encoder", "Layer", "Attention", "SelfAttention",
         "SelfOutput", "Intermediate", "Output", "Pooler")  # fmt: skip
_GPT2 = ("LMHeadModel", "ForSequenceClassification", "Model", "Block", "Attention", "MLP")

ARCHITECTURES = {
    row.model_type: row
    for row in (
        Architecture(
            "BERT", "bert", frozenset("Bert" + part for part in _BERT), (("query", "key", "value"),),
            frozenset({"position_embeddings", "token_type_embeddings"}), "bert", "embeddings.word_embeddings",
        ),
        Architecture(
            "GPT-2", "gpt2", frozenset("GPT2" + part for part in _GPT2), (), frozenset({"wpe"}),
            "transformer", "wte",
        ),
        _decoder("Llama", "llama", "Llama"),
        _decoder("Qwen3", "qwen3", "Qwen3"),
        _decoder("GLM-4", "glm4", "Glm4", together=False),
    )
}  # fmt: skip


def architecture_of(model: PreTrainedModel) -> Architecture:
    """The model's row of the table. Refuses with `slicing.unknown_architecture`."""
    found = str(getattr(model.config, "model_type", type(model).__name__))
    if found not in ARCHITECTURES:
        supported = ", ".join(row.name for row in ARCHITECTURES.values())
        raise Refusal("slicing.unknown_architecture", found=found[:80], supported=supported)
    return ARCHITECTURES[found]
