"""Which files of a base model's folder are read, by their names. A manifest pins each by its SHA-256."""

from __future__ import annotations

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
AUXILIARY = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
WEIGHTS = "model.safetensors"
