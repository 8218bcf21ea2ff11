"""`predict`: run the public front here, ask the served tail under seal, and print or keep what it answers.

A file's answers are JSON Lines in the order of its rows: {"row", "label", "probability", "probabilities"} of
a classification, {"row", "labels", "probabilities"} where a text may have several labels, {"row", "text"} of
a causal LM. Rows are named by their line; texts are not repeated. While
a file is being answered, FILE.part holds what is there and FILE.part.json says whose answers they are, so
that the same command goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.kinds import SEVERAL
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from site_agent.answering import GrowingAnswer, bucket
from site_agent.datasets.columns import TEXT_NAMES
from site_agent.datasets.formats import detect
from site_agent.datasets.readers import Fault, read
from site_agent.files import write_private
from site_agent.formatting import printable
from site_agent.serving import ServedModel

if TYPE_CHECKING:
    from enclave.slicing.questions import Drawing

BATCH = 32
Tell = Callable[[str], None]


@dataclass(frozen=True)
class AskedText:
    """A text that is asked about; `row` is its line in the file."""

    row: int
    text: str
    pair: str | None = None


@dataclass(frozen=True)
class AnswerWish:
    """How an answer is written: at most `most` tokens, up to the first of `stops`; each the likeliest at
    `temperature` 0, else drawn by `seed` from the likeliest that have `top_p` of the probability."""

    most: int = 128
    temperature: float = 0.0
    seed: int = 0
    top_p: float = 1.0
    stops: tuple[str, ...] = ()

    @property
    def drawing(self) -> Drawing:
        from enclave.slicing.questions import Drawing

        return Drawing(f"{self.temperature:g}", str(self.seed), f"{self.top_p:.6f}")


@dataclass(frozen=True)
class Prediction:
    """A class with its probability, and those of all classes in the manifest's order."""

    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Labels:
    """Those of several labels that are more likely than not, and the probability of each, in the manifest's
    order."""

    labels: list[str]
    probabilities: dict[str, float]


class Predictor:
    """The front of one run at this site, and its served tail. It brings torch: made only when needed."""

    def __init__(self, manifest: Manifest, served: ServedModel) -> None:
        from enclave.slicing.eager import run_eagerly

        run_eagerly()  # half of what a question waits for would be torch's compiler
        from enclave.slicing.halves import open_front
        from enclave_host.base_models import resolve
        from enclave_host.bounded import ChildLimits

        assert manifest.split is not None
        folder, room = resolve(manifest.model.source), ChildLimits.of_this_machine().memory
        self._front, self._tokenizer = open_front(folder, manifest.model, manifest.split.cut, room=room)
        self._vocabulary: int = self._front.config.vocab_size
        self._spec, self._served = manifest.model, served
        self.several = manifest.coded == SEVERAL
        self.paired = manifest.sites[0].dataset.kind == "pair-label"
        self.cut_short = 0

    @property
    def causal(self) -> bool:
        """Whether it writes texts instead of naming classes."""
        return self._spec.task == "causal-lm"

    def classify(self, texts: Sequence[AskedText]) -> Sequence[Prediction | Labels]:
        """The classes of some texts, or pairs of texts where the run is of pairs, cut at the run's
        `max_tokens` as in training (`cut_short` counts).

        Raises: `predict.pairs`.
        """
        from enclave.slicing.questions import ask_about, read_probabilities
        from enclave.training.texts import tokenise

        pairs = [item.pair for item in texts if item.pair is not None]
        if len(pairs) != (len(texts) if self.paired else 0):
            raise Refusal("predict.pairs", kind="pairs of texts" if self.paired else "single texts")
        plain = [item.text for item in texts]
        tokens = tokenise(self._tokenizer, plain, pairs or None, self._spec.max_tokens)
        self.cut_short += tokens.cut
        question = ask_about(self._front, tokens.ids, self._tokenizer.pad_token_id, tokens.segments)
        labels = self._spec.labels
        rows = read_probabilities(self._served.ask(question), len(texts), len(labels))
        if self.several:
            return [_labels(labels, row) for row in rows]
        return [_prediction(labels, row) for row in rows]

    def write(self, prompt: str, asked: AnswerWish) -> Iterator[str]:
        """The tokens after `prompt` as they come, as pieces of text, to the end. Then as many more are asked
        for, and thrown away, as hide where that was. Where the run is of conversations, `prompt` is what a
        user says, and the answer follows."""
        import torch

        from contracts.architecture.positions import positions_of
        from enclave.slicing.questions import ask_for_next, read_token
        from enclave.slicing.split import Session

        session, fed = Session(self._front), []
        answer, tokens, ended, done = GrowingAnswer(asked.stops), list[int](), False, 0
        room = positions_of(self._front.config) or math.inf
        following = self._prompted(prompt) or [self._tokenizer.pad_token_id]
        while not ended or (done < bucket(done) and session.tokens < room):
            fed.append(session.step(torch.tensor([following]))[0])
            heard = self._served.ask_on(
                ask_for_next(fed[-1], asked.drawing), lambda: ask_for_next(torch.cat(fed), asked.drawing)
            )
            token = read_token(heard, self._vocabulary)
            following, done = [token], done + 1
            if not ended and token != self._tokenizer.eos_token_id:
                tokens.append(token)
                yield answer.grow(self._decoded(tokens))
            ended = ended or answer.ended or token == self._tokenizer.eos_token_id or done == asked.most
        yield answer.rest()
        self._served.close()

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=self._spec.template is not None))

    def _prompted(self, prompt: str) -> list[int]:
        if self._spec.template is None:
            ids: list[int] = self._tokenizer(prompt)["input_ids"]
            return ids
        from contracts.rows import ChatMessage
        from enclave.training.conversations import Template

        asked = Template(self._tokenizer, self._spec.template).render(
            [ChatMessage("user", prompt)], answering=True
        )
        rendered: list[int] = self._tokenizer(asked, add_special_tokens=False)["input_ids"]
        return rendered


def texts_of(file: Path, column: str | None, pair: str | None = None) -> Iterator[AskedText]:
    """The texts of a file: one a line (.txt), or a column of CSV, JSON Lines or Parquet; `pair` is the
    column of the second text.

    Raises: `predict.nothing` or a `dataset.` code.
    """
    if file.suffix.lower() == ".txt":
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield AskedText(number, line.strip())
        return
    chosen = column
    for record in read(file, detect(file)):
        if isinstance(record, Fault):
            raise Refusal("predict.nothing", fault=f"line {record.line} of {file.name}: {record.reason}")
        names = {name.lower(): name for name in record.values}
        if chosen is None:
            chosen = next((names[name] for name in TEXT_NAMES if name in names), None)
        value = record.values.get(chosen or "")
        if chosen is None or not isinstance(value, str):
            raise Refusal(
                "predict.nothing", fault=f"line {record.line} of {file.name} has no text; try --column"
            )
        second = None if pair is None else record.values.get(pair)
        if pair is not None and not isinstance(second, str):
            raise Refusal("predict.nothing", fault=f"line {record.line} of {file.name} has no second text")
        yield AskedText(record.line, value, second if isinstance(second, str) else None)


def answer_file(
    predictor: Predictor,
    manifest: Manifest,
    source: Path,
    target: Path,
    *,
    column: str | None,
    pair: str | None,
    write: Callable[[str], dict[str, Any]],
    tell: Tell,
) -> int:
    """Answer a file's texts into `target`; how many. `write` answers one prompt of a causal LM.

    Raises: `predict.nothing` and `predict.other_output`, or as asking does; what is answered is kept.
    """
    texts = list(texts_of(source, column, pair))
    if not texts:
        raise Refusal("predict.nothing", fault=f"{source.name} holds no text")
    part = target.with_name(target.name + ".part")
    claim = {"manifest": manifest.hash, "input": _sha256(source), "column": column, "pair": pair}
    done = _resume(part, claim, source, target)
    if done:
        tell(f"{done:,} of {len(texts):,} are answered already; going on after them.")
    step = 1 if predictor.causal else BATCH
    with part.open("ab") as out:
        for start in range(done, len(texts), step):
            chunk = texts[start : start + step]
            for line in _answers(predictor, chunk, write):
                out.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            out.flush()
            tell(f"{min(start + step, len(texts)):,} of {len(texts):,} answered.")
        os.fsync(out.fileno())
    part.replace(target)
    _claim_file(part).unlink(missing_ok=True)
    return len(texts)


def _answers(
    predictor: Predictor, chunk: Sequence[AskedText], write: Callable[[str], dict[str, Any]]
) -> list[dict[str, Any]]:
    if predictor.causal:
        return [{"row": item.row, **write(item.text)} for item in chunk]
    found = predictor.classify(chunk)
    return [{"row": item.row, **vars(prediction)} for item, prediction in zip(chunk, found, strict=True)]


def _resume(part: Path, claim: dict[str, Any], source: Path, target: Path) -> int:
    """How many answers of an earlier try are kept. A torn last line is taken back."""
    if target.exists():
        raise Refusal(
            "predict.other_output", file=printable(target.name, 80), input=printable(source.name, 80)
        )
    try:
        kept = json.loads(_claim_file(part).read_bytes())
    except (FileNotFoundError, ValueError):
        kept = None
    if kept != claim:
        if part.exists() and kept is not None:
            file, other = printable(part.name, 80), printable(source.name, 80)
            raise Refusal("predict.other_output", file=file, input=other)
        part.unlink(missing_ok=True)
        write_private(_claim_file(part), json.dumps(claim).encode())
        part.touch(mode=0o600)
        return 0
    content = part.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    os.truncate(part, len(whole))
    return whole.count(b"\n")


def _claim_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _prediction(labels: Sequence[str], row: Sequence[float]) -> Prediction:
    best = max(range(len(labels)), key=row.__getitem__)
    chances = {label: round(chance, 6) for label, chance in zip(labels, row, strict=True)}
    return Prediction(labels[best], round(row[best], 6), chances)


def _labels(labels: Sequence[str], row: Sequence[float]) -> Labels:
    chances = {label: round(chance, 6) for label, chance in zip(labels, row, strict=True)}
    return Labels([label for label, chance in chances.items() if chance >= 0.5], chances)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
