"""The tokenizer and the positions: what a text becomes, and how much of it the model really reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from contracts.refusal import Refusal
from contracts.rows import ChatMessage

TABLES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model",
          "sentencepiece.bpe.model")  # fmt: skip
MAX_POSITIONS = 8192
"""What a study can ask for (contracts/manifest.py)."""
LONGEST_PASS = 512
"""Tokens of the pass that proves positions which are computed, not looked up."""


def require_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase, rows: int) -> int:
    """How many tokens the tokenizer knows; each has one of the embedding's `rows`.

    Raises: `model.no_tokenizer`, `model.tokenizer_beyond`, `model.other_tokenizer`, `model.no_padding` or
    `model.bad_template`.
    """
    if not any((folder / name).is_file() for name in TABLES):
        raise Refusal("model.no_tokenizer", files=", ".join(TABLES))
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) <= len(set(tokenizer.all_special_tokens)):
        raise Refusal("model.no_tokenizer", files=", ".join(TABLES))
    token, most = max(vocabulary.items(), key=lambda pair: pair[1])
    if most >= rows:
        beyond = sum(number >= rows for number in vocabulary.values())
        raise Refusal("model.tokenizer_beyond", token=token[:80], id=most, rows=rows, count=beyond)
    if 2 * len(vocabulary) < rows:
        raise Refusal("model.other_tokenizer", tokens=len(vocabulary), rows=rows)
    if tokenizer.pad_token_id is None:
        raise Refusal("model.no_padding")
    _require_template(tokenizer)
    return len(set(vocabulary.values()))


def special_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The special tokens by their roles."""
    special_tokens = {name: getattr(tokenizer, name, None) for name in tokenizer.SPECIAL_TOKENS_ATTRIBUTES}
    return {name: str(token) for name, token in sorted(special_tokens.items()) if isinstance(token, str)}


def template_of(tokenizer: PreTrainedTokenizerBase) -> Literal["none", "fits", "unfit"]:
    """Whether conversations can be rendered by the model's own chat template, so that what is learnt is what
    the model will be asked for."""
    if not tokenizer.chat_template:
        return "none"
    from enclave.training.conversations import Template

    try:
        Template(tokenizer, "model").pieces([ChatMessage("user", "fever"), ChatMessage("assistant", "rest")])
    except Refusal:
        return "unfit"
    return "fits"


def _require_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """A chat template is Jinja that renders; that it wants other messages than one of a user is its right."""
    if not tokenizer.chat_template:
        return
    import jinja2

    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "fever"}], tokenize=False)
    except jinja2.TemplateError as error:
        if isinstance(error, jinja2.TemplateSyntaxError | jinja2.UndefinedError):
            raise Refusal("model.bad_template", fault=str(error)[:200]) from error
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise Refusal("model.bad_template", fault=f"{type(error).__name__}: {error}"[:200]) from error


def embedding_rows(model: PreTrainedModel) -> int:
    """Rows of the table of token embeddings."""
    table: Any = model.get_input_embeddings()
    return int(table.num_embeddings)


def usable_positions(model: PreTrainedModel) -> int:
    """Positions that a text can use: proven by a pass over a text of that length, or of LONGEST_PASS where
    positions are computed. A table whose first rows stand for padding (RoBERTa: two of 514) has fewer than
    it has rows.

    Raises: `model.positions`.
    """
    table = _table(model)
    claimed = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    if table is None:
        usable = min(claimed or MAX_POSITIONS, MAX_POSITIONS)
        tried = min(usable, LONGEST_PASS)
    else:
        skipped = 0 if table.padding_idx is None else int(table.padding_idx) + 1
        usable = tried = min(table.num_embeddings - skipped, claimed or MAX_POSITIONS, MAX_POSITIONS)
    if usable < 8:
        raise Refusal("model.positions", claimed=claimed, usable=usable, fault="a study needs at least 8")
    ids = torch.full((1, tried), _word(model))
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError) as error:
        fault = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise Refusal("model.positions", claimed=claimed, usable=tried, fault=fault) from error
    return usable


def _table(model: nn.Module) -> nn.Embedding | None:
    """The model's table of absolute positions, if it looks them up."""
    names = ("position_embeddings", "wpe", "embed_positions", "position_embedding")
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in names and isinstance(module, nn.Embedding):
            return module
    return None


def _word(model: PreTrainedModel) -> int:
    """An id that is not padding."""
    return 1 if model.config.pad_token_id != 1 else 0
