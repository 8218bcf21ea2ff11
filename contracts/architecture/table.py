"""The architecture table: which families of models can be cut, what of them runs where, what stands where.

One row a family, and all that the parts of FedSlice know of it: what may run inside the enclave (exact class
names, because a new operation has to be looked at by a person before it runs beside secrets), which linears
share their input and so form one group, which small frozen tables stay inside, where the layers are, and what
one layer is made of. Everything that no row lists is refused. Names alone: pure, runs on every side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["attention", "attention_output", "dense"]
Linears = tuple[tuple[str, Role, str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Architecture:
    """`name` is what people call it, `model_type` is transformers' name, `package` transformers' package of
    its classes, `inside` those classes that may run inside the enclave.

    `together` are names of sibling linears with one input; `tables` are frozen embeddings that stay inside;
    `backbone` is the attribute that holds the layers; `token_table` is the embedding's place in the backbone,
    `layers` that of the layers, `norm` of the norm after them, `drop` of a dropout before them.

    `linears` of one layer are (path, role, inputs, parts); parts are blocks of output rows. `writes`: it
    reads from left to right, so it can write text; the others read both ways, and sort texts. `prefix`: its
    attention takes keys and values from before the text, so P-Tuning v2 can put them there."""

    name: str
    model_type: str
    package: str
    inside: frozenset[str]
    together: tuple[tuple[str, ...], ...]
    tables: frozenset[str]
    backbone: str
    token_table: str
    layers: str
    norm: str | None
    drop: str | None
    linears: Linears
    writes: bool = True
    prefix: bool = True


_DECODER = ("ForCausalLM", "ForSequenceClassification", "Model", "DecoderLayer", "Attention", "MLP",
            "RMSNorm", "RotaryEmbedding")  # fmt: skip
_SCALED = "TextScaledWordEmbedding"
_GEMMA3 = ("TextForSequenceClassification", "TextModel", _SCALED,
           *(part for part in _DECODER if part not in ("ForSequenceClassification", "Model")))  # fmt: skip
"""The other classes of these names read pictures, too."""
_QKV, _GATES = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
_SEPARATE_QKV: Linears = tuple(
    (f"self_attn.{part}_proj", "attention", "hidden", (part,)) for part in ("q", "k", "v")
)
_FUSED_QKV: Linears = (("self_attn.qkv_proj", "attention", "hidden", ("q", "k", "v")),)
_SEPARATE_GATES: Linears = (
    ("mlp.gate_proj", "dense", "hidden", ("gate",)),
    ("mlp.up_proj", "dense", "hidden", ("up",)),
)
_FUSED_GATES: Linears = (("mlp.gate_up_proj", "dense", "hidden", ("gate", "up")),)


def _decoder(
    name: str,
    model_type: str,
    prefix: str,
    qkv: Linears = _SEPARATE_QKV,
    gates: Linears = _SEPARATE_GATES,
    package: str = "",
    classes: tuple[str, ...] = _DECODER,
) -> Architecture:
    """A decoder of Llama's build: rotary positions, norms without a mean, a gated MLP."""
    together = ((_QKV,) if qkv is _SEPARATE_QKV else ()) + ((_GATES,) if gates is _SEPARATE_GATES else ())
    return Architecture(
        name, model_type, package or model_type, frozenset(prefix + part for part in classes), together,
        frozenset(),
        "model", "embed_tokens", "layers", "norm", None,
        (*qkv, ("self_attn.o_proj", "attention_output", "context", ("hidden",)), *gates,
         ("mlp.down_proj", "dense", "intermediate", ("hidden",))),
    )  # fmt: skip


_ENCODER = ("ForSequenceClassification", "ForTokenClassification", "Model", "Embeddings", "Encoder", "Layer",
            "Attention", "SelfAttention", "SelfOutput", "Intermediate", "Output")  # fmt: skip


def _encoder(name: str, model_type: str, prefix: str, backbone: str, head: str) -> Architecture:
    """An encoder of BERT's build: post-norms, tables of positions and of token types."""
    return Architecture(
        name, model_type, model_type.replace("-", "_"),
        frozenset(prefix + part for part in (*_ENCODER, head)),
        (("query", "key", "value"),), frozenset({"position_embeddings", "token_type_embeddings"}),
        backbone, "embeddings.word_embeddings", "encoder.layer", None, None,
        (("attention.self.query", "attention", "hidden", ("q",)),
         ("attention.self.key", "attention", "hidden", ("k",)),
         ("attention.self.value", "attention", "hidden", ("v",)),
         ("attention.output.dense", "attention_output", "context", ("hidden",)),
         ("intermediate.dense", "dense", "hidden", ("up",)),
         ("output.dense", "dense", "intermediate", ("hidden",))),
        writes=False,
    )  # fmt: skip


_GPT2 = ("LMHeadModel", "ForSequenceClassification", "Model", "Block", "Attention", "MLP")

ARCHITECTURES = {
    row.model_type: row
    for row in (
        _encoder("BERT", "bert", "Bert", "bert", "Pooler"),
        _encoder("RoBERTa", "roberta", "Roberta", "roberta", "ClassificationHead"),
        _encoder("XLM-R", "xlm-roberta", "XLMRoberta", "roberta", "ClassificationHead"),
        Architecture(
            "DistilBERT", "distilbert", "distilbert",
            frozenset({"DistilBertForSequenceClassification", "DistilBertForTokenClassification",
                       "DistilBertModel", "Embeddings", "Transformer",
                       "TransformerBlock", "DistilBertSelfAttention", "FFN"}),
            (("q_lin", "k_lin", "v_lin"),), frozenset({"position_embeddings"}),
            "distilbert", "embeddings.word_embeddings", "transformer.layer", None, None,
            (("attention.q_lin", "attention", "hidden", ("q",)),
             ("attention.k_lin", "attention", "hidden", ("k",)),
             ("attention.v_lin", "attention", "hidden", ("v",)),
             ("attention.out_lin", "attention_output", "context", ("hidden",)),
             ("ffn.lin1", "dense", "hidden", ("up",)),
             ("ffn.lin2", "dense", "intermediate", ("hidden",))),
            writes=False, prefix=False,
        ),
        Architecture(
            "ModernBERT", "modernbert", "modernbert",
            frozenset("ModernBert" + part for part in (
                "ForSequenceClassification", "ForTokenClassification", "Model", "Embeddings", "EncoderLayer",
                "Attention", "MLP", "RotaryEmbedding", "PredictionHead")),
            (), frozenset(), "model", "embeddings.tok_embeddings", "layers", "final_norm", None,
            (("attn.Wqkv", "attention", "hidden", ("q", "k", "v")),
             ("attn.Wo", "attention_output", "context", ("hidden",)),
             ("mlp.Wi", "dense", "hidden", ("gate", "up")),
             ("mlp.Wo", "dense", "intermediate", ("hidden",))),
            writes=False, prefix=False,
        ),
        Architecture(
            "GPT-2", "gpt2", "gpt2", frozenset("GPT2" + part for part in _GPT2), (), frozenset({"wpe"}),
            "transformer", "wte", "h", "ln_f", "drop",
            (("attn.c_attn", "attention", "hidden", ("q", "k", "v")),
             ("attn.c_proj", "attention_output", "context", ("hidden",)),
             ("mlp.c_fc", "dense", "hidden", ("up",)),
             ("mlp.c_proj", "dense", "intermediate", ("hidden",))),
        ),
        _decoder("Llama", "llama", "Llama"),
        _decoder("Mistral", "mistral", "Mistral"),
        _decoder("Qwen2", "qwen2", "Qwen2"),
        _decoder("Qwen3", "qwen3", "Qwen3"),
        _decoder("Phi-3", "phi3", "Phi3", _FUSED_QKV, _FUSED_GATES),
        _decoder("Gemma 2", "gemma2", "Gemma2", classes=(*_DECODER, _SCALED)),
        _decoder("Gemma 3", "gemma3_text", "Gemma3", package="gemma3", classes=_GEMMA3),
        _decoder("GLM", "glm", "Glm", gates=_FUSED_GATES),
        _decoder("GLM-4", "glm4", "Glm4", gates=_FUSED_GATES),
    )
}  # fmt: skip
SUPPORTED = ", ".join(row.name for row in ARCHITECTURES.values())
