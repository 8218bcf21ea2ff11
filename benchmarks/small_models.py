"""Small random models of every family of the architecture table: for tests, and for the table of families."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    Gemma2Config,
    Gemma3TextConfig,
    Glm4Config,
    GlmConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    Phi3Config,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    XLMRobertaConfig,
)

from contracts.architecture.table import ARCHITECTURES
from contracts.manifest import Lora

FAMILIES = tuple(ARCHITECTURES)
DECODERS = tuple(name for name, row in ARCHITECTURES.items() if row.writes)
HEADS = tuple((name, head) for name, row in ARCHITECTURES.items()
              for head in (("classifier", "lm") if row.writes else ("classifier",)))  # fmt: skip
"""Every family as a classifier, and those that write as causal LMs."""
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_SLIDING = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
_TARGETS = {
    "distilbert": ("q_lin", "v_lin"), "gpt2": ("c_attn",), "phi3": ("qkv_proj",), "modernbert": ("Wqkv",),
}  # fmt: skip


def config(
    name: str, layers: int = 3, vocabulary: int = 47, positions: int = 48, labels: int = 3, **more: Any
) -> Any:
    """A small configuration, without dropout: 24 wide, 4 heads, 2 key-value heads where the family shares
    them, the features that tell the family apart switched on."""
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_labels": labels}
    common: dict[str, Any] = {
        "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 40, "hidden_size": 24,
        "vocab_size": vocabulary, "max_position_embeddings": positions, **special, **more,
    }  # fmt: skip
    groups = {**common, "num_key_value_heads": 2}
    match name:
        case "bert":
            return BertConfig(**common, **_NO_DROPOUT)
        case "roberta":
            return RobertaConfig(**common, **_NO_DROPOUT)
        case "xlm-roberta":
            return XLMRobertaConfig(**common, **_NO_DROPOUT)
        case "distilbert":
            return DistilBertConfig(
                n_layers=layers, n_heads=4, dim=24, hidden_dim=40, vocab_size=vocabulary, dropout=0.0,
                max_position_embeddings=positions, attention_dropout=0.0, seq_classif_dropout=0.0, **special,
            )  # fmt: skip
        case "modernbert":
            return ModernBertConfig(
                **common, local_attention=4, global_attn_every_n_layers=2, classifier_pooling="mean",
                cls_token_id=1, sep_token_id=2,
            )  # fmt: skip
        case "gpt2":
            return GPT2Config(
                n_embd=24, n_layer=layers, n_head=4, n_positions=positions, vocab_size=vocabulary,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, scale_attn_by_inverse_layer_idx=True,
                **special,
            )  # fmt: skip
        case "llama":
            return LlamaConfig(**groups)
        case "mistral":
            return MistralConfig(**groups, head_dim=8, sliding_window=4)
        case "qwen2":
            return Qwen2Config(**groups, tie_word_embeddings=True, **_SLIDING)
        case "qwen3":
            return Qwen3Config(**groups, head_dim=10, tie_word_embeddings=True, **_SLIDING)
        case "phi3":
            return Phi3Config(**groups, sliding_window=4)
        case "gemma2":
            return Gemma2Config(**groups, head_dim=8, query_pre_attn_scalar=5, sliding_window=4)
        case "gemma3_text":
            return Gemma3TextConfig(**groups, head_dim=8, sliding_window=4, sliding_window_pattern=2)
        case "glm":
            return GlmConfig(**groups, head_dim=8)
        case "glm4":
            return Glm4Config(**groups, head_dim=6)
    raise KeyError(name)


def model(name: str, head: str = "classifier", seed: int = 0, **more: Any) -> PreTrainedModel:
    """A random model in evaluation mode, its weights larger than usual so that every layer matters."""
    torch.manual_seed(seed)
    automatic = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    made: PreTrainedModel = automatic.from_config(config(name, **more), attn_implementation="eager")
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(4.0)
        else:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return made.eval()


def lora(name: str, rank: int = 3) -> Lora:
    """LoRA on the family's usual targets: queries and values."""
    usual = ("q_proj", "v_proj") if name in DECODERS else ("query", "value")
    return Lora(rank, 2 * rank, _TARGETS.get(name, usual))
