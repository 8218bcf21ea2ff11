"""A client slice's learner whose model also writes answers, where the manifest asks for it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from transformers import PreTrainedTokenizerBase

from contracts.round_kind import Kind
from enclave.programs.learner import Learner
from enclave.programs.program import Report
from enclave.training.metrics import Scores
from enclave.training.writing import AnswerWriter


@dataclass(frozen=True, kw_only=True)
class WritingLearner(Learner):
    """The same, with a writer."""

    writer: AnswerWriter

    def evaluate(self, kind: Kind, report: Report) -> Scores:
        """As the learner's, with the scores of what is written to a sample of the same rows."""
        scores, rows = super().evaluate(kind, report), self.test if kind == "test" else self.validation
        return self.writer.scored(self.model, rows, scores, self.manifest.training.precision)


def with_writer(learner: Learner, tokenizer: PreTrainedTokenizerBase, key: bytes) -> WritingLearner:
    """The learner, with a writer for the manifest's sample; `key` is the site's dataset key."""
    sample = learner.manifest.publication
    writer = AnswerWriter(sample.written_rows, sample.written_tokens, tokenizer, key)
    parts = {field.name: getattr(learner, field.name) for field in fields(learner)}
    return WritingLearner(**parts, writer=writer)
