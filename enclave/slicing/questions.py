"""What a site asks a served tail, and what it gets: features in, class probabilities or the next token out.

A question is safetensors: `features` (tokens, d_model) bf16, all texts one after the other without padding,
and for a classification `lengths` (texts,) int32. For a causal LM the features are those of the next tokens
of the one text that a session is; its metadata says how the next token is drawn. An answer is of a fixed size
for its question, so that sealing it hides what it says: float32 probabilities (texts, labels), or one token
id (int32). Both travel sealed; the tail's side believes nothing of what came out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import safetensors
import safetensors.torch
import torch
from msgspec import Meta, Struct
from torch import Tensor

from contracts.manifest import ModelSpec
from contracts.refusal import Refusal
from enclave.slicing.split import Front, Session, Tail
from enclave.training.loop import derive_seed

MAX_TEXTS = 256
MAX_TOKENS = 1 << 16
BATCH = 32
DECIMALS = 3
"""Of a probability: what is finer tells of single training rows sooner than it helps whoever asks."""


class Drawing(Struct, frozen=True, forbid_unknown_fields=True):
    """How the next token is chosen: the likeliest at `temperature` 0, else drawn by `seed` from the likeliest
    that have `top_p` of the probability together. Numbers are written as text, as safetensors' metadata has
    it."""

    temperature: Annotated[str, Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?\Z")] = "0"
    seed: Annotated[str, Meta(pattern=r"^[0-9]{1,15}\Z")] = "0"
    top_p: Annotated[str, Meta(pattern=r"^(0\.[0-9]{1,6}|1(\.0{1,6})?)\Z")] = "1"


@dataclass(frozen=True)
class OpenedQuestion:
    """An opened question; `lengths` is empty for a causal LM."""

    features: Tensor
    lengths: Tensor
    drawing: Drawing

    @property
    def texts(self) -> int:
        return max(1, len(self.lengths))

    @property
    def tokens(self) -> int:
        return len(self.features)


class _Header(Struct):
    metadata: Drawing = msgspec.field(name="__metadata__", default_factory=Drawing)


_HEADER = msgspec.json.Decoder(_Header)


@torch.no_grad()
def ask_about(
    front: Front,
    tokens: Sequence[Sequence[int]],
    padding: int,
    segments: Sequence[Sequence[int]] | None = None,
) -> bytes:
    """Run the front over whole texts (token ids; of pairs also segments, where the model reads them) and pack
    the question. Runs at the site."""
    device = front.device
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
    found: dict[int, Tensor] = {}
    for start in range(0, len(order), BATCH):
        indices = order[start : start + BATCH]
        longest = max(len(tokens[index]) for index in indices)
        ids = torch.full((len(indices), longest), padding)
        mask = torch.zeros(len(indices), longest, dtype=torch.long)
        for place, index in enumerate(indices):
            ids[place, : len(tokens[index])] = torch.tensor(tokens[index])
            mask[place, : len(tokens[index])] = 1
        parts = None if segments is None else torch.zeros_like(ids)
        if segments is not None and parts is not None:
            for place, index in enumerate(indices):
                parts[place, : len(segments[index])] = torch.tensor(segments[index])
            parts = parts.to(device)
        features = front(ids.to(device), mask.to(device), token_type_ids=parts).to(torch.bfloat16).cpu()
        for place, index in enumerate(indices):
            found[index] = features[place, : len(tokens[index])]
    packed = torch.cat([found[index] for index in range(len(tokens))]).contiguous()
    lengths = torch.tensor([len(text) for text in tokens], dtype=torch.int32)
    return safetensors.torch.save({"features": packed, "lengths": lengths})


def ask_for_next(features: Tensor, drawing: Drawing) -> bytes:
    """Pack the features of the next tokens of a session's text. Runs at the site.

    Args: `features` (tokens, d_model) bf16 or float32.
    """
    packed = features.to(torch.bfloat16).cpu().contiguous()
    return safetensors.torch.save({"features": packed}, msgspec.to_builtins(drawing))


def read_question(data: bytes, *, width: int, per_token: bool, longest: int) -> OpenedQuestion:
    """Read a question from a site that may lie. `width` is d_model, `longest` the most tokens of a text.

    Raises: `serving.limit` or `serving.bad_question`.
    """
    try:
        tensors = safetensors.torch.load(data)
        header = int.from_bytes(data[:8], "little")
        drawing = _HEADER.decode(data[8 : 8 + header]).metadata
    except (safetensors.SafetensorError, msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
        raise _bad("it is not safetensors of this form") from error
    names = {"features"} if per_token else {"features", "lengths"}
    if tensors.keys() != names or tensors["features"].dtype != torch.bfloat16:
        raise _bad("it does not hold what a question holds")
    features = tensors["features"]
    lengths = tensors.get("lengths", torch.zeros(0, dtype=torch.int32))
    if features.dim() != 2 or features.shape[1] != width or not len(features):
        raise _bad("its features are of the wrong shape")
    if len(features) > MAX_TOKENS:
        raise Refusal("serving.limit", limit=MAX_TOKENS, unit="tokens a question")
    if not torch.isfinite(features).all():
        raise _bad("its features are not numbers")
    if not per_token:
        _check_lengths(lengths, len(features), longest)
    return OpenedQuestion(features, lengths, drawing)


def _check_lengths(lengths: Tensor, tokens: int, longest: int) -> None:
    if lengths.dtype != torch.int32 or lengths.dim() != 1 or not len(lengths):
        raise _bad("its lengths are of the wrong shape")
    if len(lengths) > MAX_TEXTS:
        raise Refusal("serving.limit", limit=MAX_TEXTS, unit="texts a question")
    within = (lengths >= 1) & (lengths <= longest)
    if not within.all() or int(lengths.sum(dtype=torch.int64)) != tokens:
        raise _bad("its lengths are not those of its features")


@torch.inference_mode()
def probabilities(tail: Tail, question: OpenedQuestion, *, several: bool = False) -> bytes:
    """Class probabilities of the question's texts, rounded: float32, little-endian, (texts, labels). Where a
    text may have several labels, each for itself."""
    parameter = next(tail.parameters())
    lengths = question.lengths.tolist()
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    answers: dict[int, Tensor] = {}
    for first in range(0, len(order), BATCH):
        indices = order[first : first + BATCH]
        longest = max(lengths[index] for index in indices)
        features = torch.zeros(len(indices), longest, question.features.shape[1])
        mask = torch.zeros(len(indices), longest, dtype=torch.long)
        for place, index in enumerate(indices):
            end = starts[index] + lengths[index]
            features[place, : lengths[index]] = question.features[starts[index] : end]
            mask[place, : lengths[index]] = 1
        logits = tail(features.to(parameter.device, parameter.dtype), mask.to(parameter.device)).logits
        likely = logits.float().sigmoid() if several else logits.float().softmax(-1)
        for place, row in zip(indices, likely.cpu().round(decimals=DECIMALS), strict=True):
            answers[place] = row
    table = torch.stack([answers[index] for index in range(len(lengths))])
    return table.numpy().astype("<f4").tobytes()


def read_probabilities(answer: bytes, texts: int, labels: int) -> list[list[float]]:
    """The site's reading of `probabilities`.

    Raises: `serving.bad_question` for an answer of another size or what are no probabilities.
    """
    if len(answer) != 4 * texts * labels:
        raise _bad("the answer has another size than its question asks for")
    table = torch.frombuffer(bytearray(answer), dtype=torch.float32).view(texts, labels)
    rows: list[list[float]] = table.tolist()
    if not all(math.isfinite(value) and 0 <= value <= 1 for row in rows for value in row):
        raise _bad("the answer does not hold probabilities")
    return rows


class QuestionText:
    """One text of a causal LM that grows, on the tail's side."""

    def __init__(self, tail: Tail) -> None:
        self._parameter = next(tail.parameters())
        self._session = Session(tail)

    def next_token(self, question: OpenedQuestion) -> bytes:
        """Feed the next tokens' features and choose the token after them: int32, little-endian.

        A draw depends on the seed and its place in the text alone, so that replayed features get the same
        token.

        Raises: `split.too_long`.
        """
        features = question.features.unsqueeze(0).to(self._parameter.device, self._parameter.dtype)
        logits = self._session.step(features)[0].float().cpu()
        temperature = float(question.drawing.temperature)
        if temperature:
            chances = (logits / temperature).softmax(-1)
            if (top_p := float(question.drawing.top_p)) < 1:
                likely = chances.sort(descending=True, stable=True)
                before = likely.values.cumsum(-1) - likely.values
                few = likely.values * (before <= top_p)
                chances = torch.zeros_like(chances).scatter(-1, likely.indices, few)
            seed = derive_seed(int(question.drawing.seed), self._session.tokens, "token")
            generator = torch.Generator().manual_seed(seed % 2**63)
            token = int(torch.multinomial(chances, 1, generator=generator))
        else:
            token = int(logits.argmax())
        return token.to_bytes(4, "little")


class TailAnswers:
    """A trained tail that answers questions: what `programs.serving` serves. `receipt` is the hash of the
    receipt whose parameters it has."""

    def __init__(self, tail: Tail, spec: ModelSpec, receipt: str, *, several: bool = False) -> None:
        self._tail, self._spec, self._several, self.receipt = tail.eval(), spec, several, receipt

    def text(self) -> QuestionText | None:
        """What a session remembers: the text of a causal LM."""
        return QuestionText(self._tail) if self._spec.task == "causal-lm" else None

    def answer(self, question: bytes, text: QuestionText | None) -> tuple[bytes, int, int]:
        """(answer, texts, tokens).

        Raises: as `read_question` does, and `split.too_long`.
        """
        width, longest = self._tail.config.hidden_size, self._spec.max_tokens
        asked = read_question(question, width=width, per_token=text is not None, longest=longest)
        if text is not None:
            return text.next_token(asked), asked.texts, asked.tokens
        return probabilities(self._tail, asked, several=self._several), asked.texts, asked.tokens


def read_token(answer: bytes, vocabulary: int) -> int:
    """The site's reading of `next_token`.

    Raises: `serving.bad_question`.
    """
    token = int.from_bytes(answer, "little")
    if len(answer) != 4 or token >= vocabulary:
        raise _bad("the answer is no token of this model")
    return token


def _bad(fault: str) -> Refusal:
    return Refusal("serving.bad_question", fault=fault)
