"""Rows of the architecture table: models that read both ways, and sort texts."""

from __future__ import annotations

from contracts.architecture.bert_build import BERT_BUILD
from contracts.architecture.family import Architecture

ENCODERS = BERT_BUILD | {
    row.model_type: row
    for row in (
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
    )
}  # fmt: skip
