"""By which names hospitals and public collections call their columns, in the order of preference. German
names stand beside English ones, as they do in hospitals' exports."""

from __future__ import annotations

from collections.abc import Sequence

TEXT_NAMES = ("text", "note", "narrative", "report", "sentence", "comment", "passage", "document", "body",
              "content", "dialogue", "message", "befund", "freitext")  # fmt: skip
LABEL_NAMES = (
    "label",
    "class",
    "category",
    "target",
    "code",
    "diagnosis",
    "type",
    "y",
    "klasse",
    "kategorie",
)
LABELS_NAMES = ("labels", "classes", "categories", "codes", "diagnoses", "diagnosen", "klassen", "kategorien")
TOKENS_NAMES = ("tokens", "words", "woerter", "wörter")
TAGS_NAMES = ("tags", "ner_tags", "ner", "labels", "iob", "bio", "entities")
PAIR_NAMES = (
    ("text", "text_pair"), ("text", "pair"), ("text1", "text2"), ("text_1", "text_2"), ("text_a", "text_b"),
    ("sentence1", "sentence2"), ("sentence_1", "sentence_2"), ("sentence_a", "sentence_b"),
    ("question1", "question2"), ("premise", "hypothesis"), ("context", "question"), ("passage", "question"),
    ("sentence", "question"), ("document", "question"), ("document", "query"), ("passage", "query"),
    ("evidence", "claim"), ("abstract", "claim"), ("context", "statement"), ("report", "statement"),
)  # fmt: skip
"""Two texts that are read together, where a label stands beside them."""
PROMPT_NAMES = (
    ("prompt",),
    ("instruction", "input"),
    ("instruction", "context"),
    ("instruction",),
    ("context", "question"),
    ("question",),
    ("query",),
    ("anweisung", "eingabe"),
    ("anweisung",),
    ("frage",),
)
"""What a model is asked, of which columns in which order."""
CHOICES_NAMES = (
    ("choices",), ("options",), ("opa", "opb", "opc", "opd"),
    ("option_a", "option_b", "option_c", "option_d"), ("a", "b", "c", "d"),
)  # fmt: skip
"""The choices of a question: a list, or a column for each."""
RESPONSE_NAMES = ("response", "completion", "output", "answer", "long_answer", "cop", "correct_option",
                  "ausgabe", "antwort")  # fmt: skip
MESSAGES_NAMES = ("messages", "conversations", "conversation")
SPLIT_NAMES = ("split", "set", "fold", "partition", "subset")
SITE_NAMES = ("site", "hospital", "clinic", "centre", "center", "trust", "klinik", "standort")


def by_name(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of the wanted names that a column has, as the column writes it."""
    known = {name.strip().lower(): name for name in reversed(names)}
    return next((known[name] for name in wanted if name in known), None)


def together(wanted: Sequence[Sequence[str]], names: Sequence[str]) -> tuple[str, ...]:
    """The first group of wanted names that the columns have all of."""
    for group in wanted:
        found = [by_name((name,), names) for name in group]
        if all(found):
            return tuple(name for name in found if name is not None)
    return ()
