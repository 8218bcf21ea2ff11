"""Rows of the architecture table: models that read both ways, and sort texts."""

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


ENCODERS = {
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
    )
}  # fmt: skip
