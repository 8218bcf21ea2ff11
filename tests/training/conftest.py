"""Tiny real models, made here: a BERT and a Llama with random weights and a word tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.training.tiny import CHAT, CHATML, MARKS, WORDS


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make_tokenizer(folder: Path) -> int:
    vocabulary = {word: index for index, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", model_max_length=32
    ).save_pretrained(folder)
    return len(vocabulary)


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bert"
    size = make_tokenizer(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def _chat_tokenizer(folder: Path) -> int:
    known = ("[PAD]", "[UNK]", *MARKS, *WORDS, *CHAT)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="[UNK]",
        pad_token="[PAD]",
        bos_token=MARKS[0],
        eos_token=MARKS[1],
        model_max_length=32,
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return len(known)


@pytest.fixture
def llama_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "llama"
    return _llama(folder, make_tokenizer(folder))


@pytest.fixture
def chat_folder(tmp_path: Path) -> Path:
    """A Llama whose tokenizer knows the end of a text, and has a chat template."""
    folder = tmp_path / "chat"
    return _llama(folder, _chat_tokenizer(folder))


def _llama(folder: Path, size: int) -> Path:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.2,
        bos_token_id=2,
        eos_token_id=3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
