"""What a causal LM learns from: texts as a whole, or the answers of conversations and where they end.

A conversation's questions are given, not learnt: their targets are IGNORED (data.py). Each piece is tokenised
alone, as it will be when the model is asked. Runs inside the enclave in Method 1, in Method 2 at the site.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from contracts.rows import Conversation, PromptChoices, Row, WholeText
from enclave.training.data import IGNORED, Examples
from enclave.training.texts import AT_ONCE

LEAST_OF_A_QUESTION = 32
"""Tokens that a question keeps, if it has them, before its answer loses any."""

Part = tuple[list[int], bool]
"""Tokens, and whether they are learnt."""


def encode_answers(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> Examples:
    """Tokenise rows for a causal LM.

    Raises: `rows.no_end` where the tokenizer has no token for the end of an answer, `rows.nothing_learnt`
    where no row has a token to learn, and `template.*`.
    """
    if any(isinstance(row, PromptChoices) and row.split != "train" for row in rows):
        from enclave.training.choice_rows import encode_choices

        return encode_choices(rows, tokenizer, spec)
    tokens: list[list[int]] = []
    targets: list[list[int]] = []
    cut = 0
    for parts in parts_of(rows, tokenizer, spec):
        ids, learnt, shortened = _fit(parts, spec.max_tokens)
        cut += shortened
        if any(target != IGNORED for target in learnt[1:]):  # nothing predicts a first token
            tokens.append(ids)
            targets.append(learnt)
    if rows and not tokens:
        raise Refusal("rows.nothing_learnt", tokens=spec.max_tokens)
    return Examples(tokens, targets, tokenizer.pad_token_id, cut=cut, left_out=len(rows) - len(tokens))


def parts_of(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> list[list[Part]]:
    """Each row's tokens in parts that are given or learnt.

    Raises: `rows.no_end` and `template.*`.
    """
    texts = [row.text for row in rows if isinstance(row, WholeText)]
    if texts:
        end = tokenizer.eos_token_id
        return [[(_ended(ids, end), True)] for ids in _ids(tokenizer, texts, marks=True)]
    from enclave.training.conversations import Template, turns

    template = Template(tokenizer, spec.template)
    if tokenizer.eos_token_id is None:
        raise Refusal("rows.no_end")
    rendered = [template.pieces(turns(row)) for row in rows if isinstance(row, Conversation)]
    ids = iter(_ids(tokenizer, [piece.text for pieces in rendered for piece in pieces], marks=False))
    found = []
    for pieces in rendered:
        parts = [(next(ids), piece.learnt) for piece in pieces]
        found.append(_closed(parts, tokenizer.eos_token_id))
    return found


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], marks: bool) -> list[list[int]]:
    found: list[list[int]] = []
    for start in range(0, len(texts), AT_ONCE):
        some = list(texts[start : start + AT_ONCE])
        found += tokenizer(some, add_special_tokens=marks)["input_ids"] if some else []
    return found


def _ended(ids: list[int], end: int | None) -> list[int]:
    """With the token that ends a text, unless it ends so already or the tokenizer has none."""
    return ids if end is None or ids[-1:] == [end] else [*ids, end]


def _closed(parts: list[Part], end: int) -> list[Part]:
    """Answers are learnt up to their end. What the template puts after it (a line's end) is given; after the
    last answer nothing comes, and its end is put there where the template has none."""
    closed: list[Part] = []
    for ids, learnt in parts:
        if not learnt or end not in ids:
            closed.append((ids, learnt))
            continue
        stop = len(ids) - ids[::-1].index(end)
        closed += [(ids[:stop], True), (ids[stop:], False)]
    last = max(place for place, (_, learnt) in enumerate(closed) if learnt)
    ids, _ = closed[last]
    return [*closed[:last], (_ended(ids, end), True)]


def _fit(parts: list[Part], most: int) -> tuple[list[int], list[int], bool]:
    """(tokens, targets, whether any were lost), at most `most` tokens. The longest question loses its middle
    first, as instructions stand at either end; what is still too long loses its end."""
    over = sum(len(ids) for ids, _ in parts) - most
    shortened = over > 0
    while over > 0:
        place = max(range(len(parts)), key=lambda place: (not parts[place][1]) * len(parts[place][0]))
        ids, learnt = parts[place]
        kept = max(len(ids) - over, min(LEAST_OF_A_QUESTION, most // 2))
        if learnt or kept >= len(ids):
            break
        parts = [*parts[:place], (without_middle(ids, kept), False), *parts[place + 1 :]]
        over -= len(ids) - kept
    tokens = [token for ids, _ in parts for token in ids][:most]
    targets = [token if learnt else IGNORED for ids, learnt in parts for token in ids][:most]
    return tokens, targets, shortened


def without_middle(ids: list[int], kept: int) -> list[int]:
    """The first and the last of them, so many together."""
    first = (kept + 1) // 2
    return ids[:first] + ids[len(ids) - (kept - first) :]
