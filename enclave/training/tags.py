"""Tokens with tags (named entities, IOB2): each word is tagged at its first piece, and scored by whole
entities.

A word's target is `-(FIRST + id)` at its first piece, IGNORED at the others and at marks: all negative, so a
batch of tags is taken for no batch of a causal LM's tokens. Entities are counted strictly, as seqeval does in
its strict mode: an entity begins with B, goes on with I of the same type, and is right where both ends and
the type are. Loaded by runs over datasets of the kind `token-tags` alone. Runs inside the enclave, and at
the site where features are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from contracts.entities import entities, types_of
from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from contracts.rows import Row, TokensTags
from enclave.training.data import IGNORED, Examples
from enclave.training.loop import EVALUATION_BATCH, batch_logits, batch_loss, precision_of
from enclave.training.metrics import Scores

if TYPE_CHECKING:
    from enclave.training.material import Material

FIRST = 101
"""Beyond IGNORED, so that each target is one or the other."""


def encode_tags(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> Examples:
    """As `row_reader.encode`. Words that are cut off are counted with their row.

    Raises: `rows.no_words` where the tokenizer does not say which word a piece is of.
    """
    known, ids, targets, cut = spec.classes, [], [], 0
    if not tokenizer.is_fast:
        raise Refusal("rows.no_words")
    for row in rows:
        assert isinstance(row, TokensTags)
        try:
            found = tokenizer(
                list(row.tokens), is_split_into_words=True, truncation=True, max_length=spec.max_tokens
            )
        except AssertionError as error:  # a tokenizer that needs a blank before each word, and adds none
            raise Refusal("rows.no_words") from error
        words = found.word_ids()
        before = [None, *words[:-1]]
        learnt = [
            IGNORED if word is None or word == last else -(FIRST + known[row.tags[word]])
            for word, last in zip(words, before, strict=True)
        ]
        cut += max((word for word in words if word is not None), default=-1) + 1 < len(row.tokens)
        if any(target != IGNORED for target in learnt[1:]):
            ids.append(list(found["input_ids"]))
            targets.append(learnt)
    return Examples(ids, targets, tokenizer.pad_token_id, cut=cut, left_out=len(rows) - len(ids))


def loss_of_tags(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean cross-entropy over words.

    Args: `logits` (rows, tokens, tags) in the model's dtype; `targets` (rows, tokens) int64.

    Returns: the loss, a () float32; tags said and true, (words,) int64.
    """
    tagged = targets != IGNORED
    scores, truth = logits[tagged], -targets[tagged] - FIRST
    return cross_entropy(scores.float(), truth), scores.argmax(-1), truth


def evaluate_tags(
    model: nn.Module, examples: Material, labels: tuple[str, ...], *, precision: str, progress: Any = None
) -> Scores:
    """`predictions` are words, `exact` rows whose tags are all right, and `confusion` has for each type of
    entity [in both, in the row alone, said alone]."""
    types = types_of(labels)
    counts = {name: [0, 0, 0] for name in types}
    predictions, correct, loss_sum, exact, rows = 0, 0, 0.0, 0, 0
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        for batch in examples.evaluation_batches(EVALUATION_BATCH):
            with precision_of(precision, device):
                logits = batch_logits(model, batch, device)
            mean, guesses, truth = batch_loss(logits, batch)
            predictions += len(truth)
            correct += int((guesses == truth).sum())
            loss_sum += float(mean) * len(truth)
            words = (batch.targets != IGNORED).sum(1).tolist()
            for said, true in zip(guesses.split(words), truth.split(words), strict=True):
                exact += int(torch.equal(said, true))
                has, found = (entities([labels[tag] for tag in tags.tolist()]) for tags in (true, said))
                for place, part in enumerate((has & found, has - found, found - has)):
                    for entity in part:
                        counts[entity.type][place] += 1
            rows += batch.rows
    table = tuple(tuple(counts[name]) for name in types)
    return Scores(rows, predictions, correct, loss_sum, table, exact)
