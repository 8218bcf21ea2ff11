"""Rows whose answers are chosen, made into examples (choices.py says how a choice is coded). Loaded by runs
over datasets of the kind `prompt-choices` alone. Runs inside the enclave, and at the site where features are
made."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from contracts.rows import PromptChoices, PromptResponse, Row
from enclave.training.answers import LEAST_OF_A_QUESTION, Part, parts_of, without_middle
from enclave.training.choices import FIRST, Place, code_of
from enclave.training.data import IGNORED, Examples


def encode_choices(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> Examples:
    """As `answers.encode_answers`, of rows to evaluate on: an example for each choice. All choices of a row
    stand behind the same tokens: what is too long for the longest of them loses its middle for all. A row
    with a choice that does not fit even so is left out.

    Raises: as `answers.encode_answers`, `rows.nothing_learnt` where no row is left.
    """
    asked = [row for row in rows if isinstance(row, PromptChoices)]
    every = [PromptResponse(row.prompt, choice, row.split) for row in asked for choice in row.choices]
    parts = iter(parts_of(every, tokenizer, spec))
    tokens: list[list[int]] = []
    targets: list[list[int]] = []
    cut = number = 0
    for row in asked:
        split = [_parted(next(parts)) for _ in row.choices]
        question = split[0][0]
        room = spec.max_tokens - max(len(choice) for _, choice in split)
        if len(question) > room:
            cut += 1
            question = without_middle(question, max(room, 0))
        if not question or len(question) < min(len(split[0][0]), LEAST_OF_A_QUESTION, spec.max_tokens // 2):
            continue
        for this, (_, choice) in enumerate(split):
            code = code_of(Place(number, len(row.choices), row.choices.index(row.response), this))
            tokens.append([*question, *choice])
            targets.append([-(FIRST + code), *[IGNORED] * (len(question) - 1), *choice])
        number += 1
    if rows and not tokens:
        raise Refusal("rows.nothing_learnt", tokens=spec.max_tokens)
    return Examples(tokens, targets, tokenizer.pad_token_id, cut=cut, left_out=len(rows) - number)


def _parted(parts: Sequence[Part]) -> tuple[list[int], list[int]]:
    """What is given before an answer, and the answer with its end; what a template puts after it is of no
    use."""
    last = max(place for place, (_, learnt) in enumerate(parts) if learnt)
    return [token for ids, _ in parts[:last] for token in ids], parts[last][0]
