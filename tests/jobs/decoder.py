"""A tiny decoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.jobs.driver import COMMON, WORDS


def make_decoder(folder: Path, answers: Sequence[str] = ()) -> Path:
    """A Llama of two layers with random weights and the vocabulary of the hospitals' words. Where it is to
    give answers, it knows their words, too, and an end."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    ends = {"eos_token": "[END]"} if answers else {}
    words = ["[PAD]", "[UNK]", *ends.values(), *answers, *COMMON, *WORDS["routine"], *WORDS["urgent"]]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", **ends
    ).save_pretrained(folder)
    torch.manual_seed(1)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), pad_token_id=0, **size, **heads)).save_pretrained(
        folder
    )
    return folder
