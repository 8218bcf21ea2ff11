"""A tiny decoder for the serving tests."""

from __future__ import annotations

from pathlib import Path

from tests.jobs.driver import COMMON, WORDS


def make_decoder(folder: Path) -> Path:
    """A Llama of two layers with random weights and the vocabulary of the hospitals' words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *COMMON, *WORDS["routine"], *WORDS["urgent"]]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder
    )
    torch.manual_seed(1)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), pad_token_id=0, **size, **heads)).save_pretrained(
        folder
    )
    return folder
