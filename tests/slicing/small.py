"""Small random models of every architecture, three layers deep, as classifiers and as causal LMs."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    Glm4Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    Qwen3Config,
)

LAYERS, VOCABULARY, LABELS = 3, 47, 3
_COMMON: dict[str, Any] = {
    "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 40, "vocab_size": VOCABULARY,
    "hidden_size": 24, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 48,
    "num_labels": LABELS,
}  # fmt: skip


def config(name: str) -> Any:
    """A small configuration, without dropout."""
    if name == "bert":
        return BertConfig(**_COMMON, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    if name == "gpt2":
        return GPT2Config(
            n_embd=24, n_layer=LAYERS, n_head=4, n_positions=48, vocab_size=VOCABULARY, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            num_labels=LABELS, scale_attn_by_inverse_layer_idx=True,
        )  # fmt: skip
    if name == "llama":
        return LlamaConfig(**_COMMON, num_key_value_heads=2)
    if name == "qwen3":
        sliding = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
        return Qwen3Config(**_COMMON, num_key_value_heads=2, head_dim=10, tie_word_embeddings=True, **sliding)
    return Glm4Config(**_COMMON, num_key_value_heads=2, head_dim=6)


DECODERS = ("gpt2", "llama", "qwen3", "glm4")
MODELS = (("bert", "classifier"), *((n, h) for n in DECODERS for h in ("classifier", "lm")))


def model(name: str, head: str = "classifier", seed: int = 0) -> PreTrainedModel:
    """A random model in evaluation mode, its weights larger than usual so that every layer matters."""
    torch.manual_seed(seed)
    automatic = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    made = automatic.from_config(config(name), attn_implementation="eager")
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(4.0)
        else:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    made.eval()
    return made


def texts(seed: int = 1, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Four texts of 9, 5, 1 and 7 tokens: (ids, mask), padded."""
    draw = torch.Generator().manual_seed(seed)
    ids, mask = torch.zeros(4, 9, dtype=torch.long), torch.zeros(4, 9, dtype=torch.long)
    for place, length in enumerate((9, 5, 1, 7)):
        where = slice(9 - length, 9) if left else slice(0, length)
        ids[place, where] = torch.randint(3, VOCABULARY, (length,), generator=draw)
        mask[place, where] = 1
    return ids, mask
