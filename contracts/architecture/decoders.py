"""Rows of the architecture table: models that read from left to right, so that they can write text."""

from __future__ import annotations

from contracts.architecture.family import Architecture, Linears

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


_GPT2 = ("LMHeadModel", "ForSequenceClassification", "Model", "Block", "Attention", "MLP")

DECODERS = {
    row.model_type: row
    for row in (
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
