"""Texts and pairs of texts as tokens of a classifier, in training and when it is asked.

A pair is encoded as the model's tokenizer does it: `[CLS] text [SEP] pair [SEP]` of a BERT, with segments
where the model reads them. Most decoders' tokenizers would join the two without a mark, so a blank line parts
them. What is too long loses tokens of the longer text first, and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

MARK = "\n\n"
AT_ONCE = 1000


@dataclass(frozen=True)
class Tokens:
    """Token ids of each text, at least one; `segments` as in `data.Examples`; how many texts were `cut`."""

    ids: list[list[int]]
    segments: list[list[int]] | None
    cut: int


def tokenise(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], pairs: Sequence[str] | None, most: int
) -> Tokens:
    """At most `most` tokens of each text, or of each text and its pair together."""
    marked = None if pairs is None else [_mark(tokenizer) + pair for pair in pairs]
    ids: list[list[int]] = []
    segments: list[list[int]] = []
    cut = 0
    for start in range(0, len(texts), AT_ONCE):
        place = slice(start, start + AT_ONCE)
        given = (list(texts[place]), None if marked is None else marked[place])
        found = tokenizer(*given, truncation=True, max_length=most)
        ids += found["input_ids"]
        if marked is not None and "token_type_ids" in found:
            segments += found["token_type_ids"]
        if found.encodings is not None:
            cut += sum(bool(encoding.overflowing) for encoding in found.encodings)
        else:  # a tokenizer in Python
            cut += sum(len(whole) > most for whole in tokenizer(*given)["input_ids"])
    for one in ids:
        if not one:  # an empty text and a tokenizer without marks: one padding token keeps it countable
            one.append(tokenizer.pad_token_id)
    return Tokens(ids, segments or None, cut)


def _mark(tokenizer: PreTrainedTokenizerBase) -> str:
    """Goes before the second text where the tokenizer has no token of its own to part two."""
    alone, together = (tokenizer.num_special_tokens_to_add(pair=pair) for pair in (False, True))
    return "" if together > alone else MARK
