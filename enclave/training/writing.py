"""Answers that the model writes itself, held against the rows': token F1 and ROUGE-L over a sample of rows.

Loss and exact match come from the true answer's own tokens; only here the model goes on from what it has
written. A site's sample is fixed by the key of its dataset: the same rows in each round and life, and nobody
but the hospital can tell which. Every row is written for the same number of steps, whatever the model says,
as a host sees how long they take. Runs inside the client slice, where the manifest asks for it.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from enclave.training.agreement import agreement
from enclave.training.batches import by_length
from enclave.training.data import IGNORED, Examples
from enclave.training.loop import precision_of
from enclave.training.metrics import Scores

DOMAIN = b"fedslice/written-sample/v1\0"
AT_ONCE = 8
"""Rows that are written together."""


@dataclass(frozen=True)
class AnswerWriter:
    """Writes an answer to at most so many `rows`, in so many steps (`tokens`). `key` is that of the site's
    dataset."""

    rows: int
    tokens: int
    tokenizer: PreTrainedTokenizerBase
    key: bytes

    def scored(self, model: Any, examples: Examples, scores: Scores, precision: str) -> Scores:
        """The scores, with those of the answers that are written to the sample of these rows."""
        rows = sample(self.key, len(examples), self.rows)
        prompts, answers = zip(*(_parted(examples, row) for row in rows), strict=True)
        f1 = rouge_l = 0
        for places in by_length([len(prompt) for prompt in prompts], AT_ONCE):
            with precision_of(precision, next(model.parameters()).device):
                written = write(model, [prompts[place] for place in places], self.tokens, self._ends)
            for place, tokens in zip(places, written, strict=True):
                found = agreement(self._text(answers[place]), self._text(tokens))
                f1, rouge_l = f1 + found.f1, rouge_l + found.rouge_l
        return replace(scores, bins=((len(rows), f1, rouge_l),))

    @property
    def _ends(self) -> int:
        end: int = self.tokenizer.eos_token_id
        return end

    def _text(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def sample(key: bytes, rows: int, most: int) -> list[int]:
    """The numbers of at most so many rows, drawn by this key: the same whoever asks."""
    drawn = {row: hmac.digest(key, DOMAIN + struct.pack(">Q", row), hashlib.sha256) for row in range(rows)}
    return sorted(sorted(drawn, key=drawn.__getitem__)[:most])


def _parted(examples: Examples, row: int) -> tuple[list[int], list[int]]:
    """A row's tokens before its last answer, and that answer's."""
    tokens, targets = examples.tokens[row], examples.targets[row]
    assert isinstance(targets, list)
    last = max(place for place, target in enumerate(targets) if target != IGNORED)
    first = last
    while first > 1 and targets[first - 1] != IGNORED:
        first -= 1
    return tokens[:first], tokens[first : last + 1]


@torch.inference_mode()
def write(model: Any, prompts: list[list[int]], steps: int, end: int) -> list[list[int]]:
    """What the model writes greedily after each prompt, up to its first `end`; `steps` tokens are computed of
    each, whatever they are."""
    device = next(model.parameters()).device
    longest = max(map(len, prompts))
    given = torch.tensor([[end] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.ones_like(given)
    for place, prompt in enumerate(prompts):
        mask[place, : longest - len(prompt)] = 0
    cache, written = DynamicCache(config=model.config), given[:, :0]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    for _ in range(steps):
        logits: Tensor = model(
            input_ids=given,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        given = logits[:, -1].argmax(-1, keepdim=True)
        written = torch.cat((written, given), 1)
        mask, positions = torch.cat((mask, torch.ones_like(given)), 1), positions[:, -1:] + 1
    return [row[: row.index(end)] if end in row else row for row in written.tolist()]
