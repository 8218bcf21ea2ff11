"""Rows of the architecture table: encoders of BERT's build. They stand apart, so that an enclave that tunes
one of them loads no other family's row (rows.py)."""

from __future__ import annotations

from contracts.architecture.family import Architecture

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


BERT_BUILD = {
    row.model_type: row
    for row in (
        _encoder("BERT", "bert", "Bert", "bert", "Pooler"),
        _encoder("RoBERTa", "roberta", "Roberta", "roberta", "ClassificationHead"),
        _encoder("XLM-R", "xlm-roberta", "XLMRoberta", "roberta", "ClassificationHead"),
    )
}
