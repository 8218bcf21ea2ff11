"""What a file's rows are, and which column is what: said by the user or inferred, then shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from contracts.kinds import Kind
from contracts.refusal import Refusal
from contracts.rows import Split
from site_agent.datasets.choices import has_few_choices
from site_agent.datasets.names import (
    CHOICES_NAMES,
    LABEL_NAMES,
    MESSAGES_NAMES,
    PAIR_NAMES,
    PROMPT_NAMES,
    RESPONSE_NAMES,
    SITE_NAMES,
    SPLIT_NAMES,
    TAGS_NAMES,
    TEXT_NAMES,
    TOKENS_NAMES,
    by_name,
    together,
)
from site_agent.datasets.readers import Nested, Record
from site_agent.datasets.several import separator_of, several
from site_agent.formatting import printable

SPLITS: dict[str, Split] = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
MAX_LABELS = 1000
ROLES: dict[Kind, tuple[str, ...]] = {
    "text-label": ("text", "label"),
    "pair-label": ("text", "pair", "label"),
    "text-labels": ("text", "labels"),
    "token-tags": ("tokens", "tags"),
    "prompt-response": ("prompt", "response"),
    "prompt-choices": ("prompt", "response"),
    "messages": ("messages",),
    "text": ("text",),
}
"""The roles that a kind needs a column for; what is not among them is read from no column."""
_LISTS = ("list", "large_list")
_NESTED = {
    "messages": _LISTS,
    "labels": _LISTS,
    "tokens": _LISTS,
    "tags": _LISTS,
    "prompt": (*_LISTS, "struct"),
    "choices": (*_LISTS, "struct"),
}
"""What a role can hold beside texts, as Parquet names it."""


@dataclass(frozen=True)
class Columns:
    """The columns in use, by role: those of ROLES, and `split` and `site` where the file has them. What a
    model is asked may stand in several columns (`prompt`), and the `choices` of a question in one or several.
    Several `labels` stand in one column, as a list or parted by a `separator`, or in columns of 0 and 1.
    `fixed` are choices that are the same for every question. `guessed` are the roles whose column nobody has
    named; as what a user says, nothing is guessed yet."""

    kind: Kind | None = None
    text: str | None = None
    pair: str | None = None
    label: str | None = None
    labels: tuple[str, ...] = ()
    tokens: str | None = None
    tags: str | None = None
    prompt: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    response: str | None = None
    messages: str | None = None
    split: str | None = None
    site: str | None = None
    separator: str | None = None
    guessed: tuple[str, ...] = ()

    @property
    def used(self) -> tuple[str, ...]:
        """The names of the columns that are read."""
        found = [name for role in _ROLES_OF_COLUMNS for name in self.all_of(role)]
        return tuple(dict.fromkeys(found))

    def all_of(self, role: str) -> tuple[str, ...]:
        """The columns of a role: none, one, or for a prompt several."""
        value = getattr(self, role)
        return value if isinstance(value, tuple) else (() if value is None else (value,))

    def the(self, role: str) -> str:
        """The column of a role that is in use."""
        return self.all_of(role)[0]


_ROLES_OF_COLUMNS = tuple(
    field.name for field in fields(Columns) if field.name not in ("kind", "fixed", "separator", "guessed")
)


def infer(sample: Sequence[Record], said: Columns) -> Columns:
    """Kind and columns by what the user says, else by their names, else by what stands in the sample.

    Raises: `dataset.no_rows`, `dataset.no_column`, `dataset.which_kind`, `dataset.which_column` (with the
    candidates' names) or `dataset.column_type`.
    """
    if not sample:
        raise Refusal("dataset.no_rows")
    names = list(sample[0].values)
    for name in said.used:
        if name not in names:
            raise Refusal("dataset.no_column", column=printable(name, 64), columns=_listed(names))
    found = replace(said, split=said.split or _split_column(sample, _left(names, said)))
    found = replace(found, site=found.site or by_name(SITE_NAMES, _left(names, found)))
    kind = said.kind or _kind(sample, _left(names, found), said)
    found = _OF_KIND[kind](sample, names, replace(found, kind=kind))
    if said.kind is None and found.choices and all(has_few_choices(r.values, found.choices) for r in sample):
        kind, found = "prompt-choices", replace(found, kind="prompt-choices")
    for role in (*ROLES[kind], "choices"):
        for name in found.all_of(role):
            _refuse_type(sample, name, _NESTED.get(role, ()))
    every = (*_ROLES_OF_COLUMNS, "separator")
    roles = [role for role in every if found.all_of(role) and not said.all_of(role)]
    guessed = ("kind", *roles) if said.kind is None and kind == "text" else tuple(roles)
    return replace(found, guessed=guessed)


def split_of_name(file: str) -> Split | None:
    """The split that a file's name says, if any."""
    return next((SPLITS[word] for word in re.split(r"[^a-z]+", file.lower()) if word in SPLITS), None)


def _kind(sample: Sequence[Record], names: list[str], said: Columns) -> Kind:
    """The roles that are named decide; else the columns' names: whoever has written `messages`, or a prompt
    and a response, means a language model.

    Raises: `dataset.which_kind` where a class stands beside what could be an answer.
    """
    if said.messages:
        return "messages"
    if said.tokens or said.tags:
        return "token-tags"
    if said.labels or said.separator:
        return "text-labels"
    if said.fixed:
        return "prompt-choices"
    if said.prompt or said.response:
        return "prompt-response"
    if said.pair:
        return "pair-label"
    if said.text is None and said.label is None:
        if (name := by_name(TOKENS_NAMES, names)) and isinstance(sample[0].values[name], Nested):
            return "token-tags"
        if (name := by_name(MESSAGES_NAMES, names)) and isinstance(sample[0].values[name], Nested):
            return "messages"
        prompt, response = together(PROMPT_NAMES, names), by_name(RESPONSE_NAMES, names)
        if prompt and response:
            label = by_name(LABEL_NAMES, [name for name in names if name not in (*prompt, response)])
            if label is None:
                return "prompt-response"
            raise Refusal("dataset.which_kind", prompt=_listed(prompt), response=printable(response, 64),
                          label=printable(label, 64))  # fmt: skip
        if len(names) == 1:
            return "text"
    if said.text is None and together(PAIR_NAMES, [name for name in names if name != said.label]):
        return "pair-label"
    if said.label is None and by_name(LABEL_NAMES, names) is None and several(sample, names):
        return "text-labels"
    return "text-label"


def _text(sample: Sequence[Record], names: list[str], found: Columns) -> Columns:
    left = _left(names, found)
    return replace(found, text=found.text or by_name(TEXT_NAMES, left) or _longest(sample, left))


def _text_label(sample: Sequence[Record], names: list[str], found: Columns) -> Columns:
    found = _text(sample, names, found)
    left = _left(names, found)
    return replace(found, label=found.label or by_name(LABEL_NAMES, left) or _few_values(sample, left))


def _tokens_tags(_sample: Sequence[Record], names: list[str], found: Columns) -> Columns:
    for role, usual in (("tokens", TOKENS_NAMES), ("tags", TAGS_NAMES)):
        left = _left(names, found)
        name = getattr(found, role) or by_name(usual, left)
        if name is None:
            option, columns = f"--{role}-column", _listed(left)
            raise Refusal("dataset.which_column", role=role, option=option, columns=columns)
        found = replace(found, tokens=name) if role == "tokens" else replace(found, tags=name)
    return found


def _text_labels(sample: Sequence[Record], names: list[str], found: Columns) -> Columns:
    columns = found.labels or several(sample, _left(names, found))
    if not columns:
        listed = _listed(_left(names, found))
        raise Refusal("dataset.which_column", role="labels", option="--labels-column", columns=listed)
    found = _text(sample, names, replace(found, labels=columns))
    if len(columns) == 1 and found.separator is None:
        found = replace(found, separator=separator_of(sample, columns[0]))
    return found


def _pair_label(sample: Sequence[Record], names: list[str], found: Columns) -> Columns:
    if found.text is None and found.pair is None and (pair := together(PAIR_NAMES, _left(names, found))):
        found = replace(found, text=pair[0], pair=pair[1])
    found = _text(sample, names, found)
    left = _left(names, found)
    if found.pair is None:
        second = [name for name in left if name != found.label and reads_as_text(sample, name)]
        if len(second) != 1:
            columns = _listed(second or left)
            raise Refusal("dataset.which_column", role="second text", option="--pair-column", columns=columns)
        found = replace(found, pair=second[0])
    return _text_label(sample, names, found)


def _prompt_response(_sample: Sequence[Record], names: list[str], found: Columns) -> Columns:
    response = found.response or by_name(RESPONSE_NAMES, _left(names, found))
    if response is None:
        columns = _listed(_left(names, found))
        raise Refusal("dataset.which_column", role="response", option="--response-column", columns=columns)
    found = replace(found, response=response)
    prompt = found.prompt or together(PROMPT_NAMES, _left(names, found))
    if not prompt:
        columns = _listed(_left(names, found))
        raise Refusal("dataset.which_column", role="prompt", option="--prompt-column", columns=columns)
    found = replace(found, prompt=prompt)
    return replace(found, choices=found.choices or together(CHOICES_NAMES, _left(names, found)))


def _prompt_choices(sample: Sequence[Record], names: list[str], found: Columns) -> Columns:
    found = _prompt_response(sample, names, found)
    if not found.choices and not found.fixed:
        columns = _listed(_left(names, found))
        raise Refusal("dataset.which_column", role="choices", option="--choices-column", columns=columns)
    return found


def _messages(_sample: Sequence[Record], names: list[str], found: Columns) -> Columns:
    left = _left(names, found)
    name = found.messages or by_name(MESSAGES_NAMES, left)
    if name is None:
        columns = _listed(left)
        raise Refusal("dataset.which_column", role="messages", option="--messages-column", columns=columns)
    return replace(found, messages=name)


_OF_KIND: dict[Kind, Any] = {
    "text-label": _text_label,
    "pair-label": _pair_label,
    "text-labels": _text_labels,
    "token-tags": _tokens_tags,
    "prompt-response": _prompt_response,
    "prompt-choices": _prompt_choices,
    "messages": _messages,
    "text": _text,
}


def reads_as_text(sample: Sequence[Record], name: str) -> bool:
    """Whether a column holds sentences: words on average, and different ones in most rows."""
    values = [value for record in sample if isinstance(value := record.values.get(name), str) and value]
    words = sum(len(value.split()) for value in values)
    return len(values) >= len(sample) // 2 and words >= 4 * len(values) > 0 and len(set(values)) > 1


def _left(names: Sequence[str], found: Columns) -> list[str]:
    """The columns that have no role yet."""
    return [name for name in names if name not in found.used]


def _refuse_type(sample: Sequence[Record], name: str, nested: tuple[str, ...]) -> None:
    """A column whose type is no text is named once, not by each of its rows."""
    cell = sample[0].values.get(name)
    if isinstance(cell, Nested) and cell.kind and not cell.kind.startswith(nested):
        raise Refusal("dataset.column_type", column=printable(name, 64), type=cell.kind[:60])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(printable(name, 64) for name in names[:20]) + (" …" if len(names) > 20 else "")


def _split_column(sample: Sequence[Record], names: list[str]) -> str | None:
    """A column is the split only if its name says so and all of its values do."""
    name = by_name(SPLIT_NAMES, names)
    if name is None:
        return None
    values = {str(record.values.get(name, "")).strip().lower() for record in sample}
    return name if values <= set(SPLITS) else None


def _longest(sample: Sequence[Record], names: list[str]) -> str:
    """The column whose texts are at least twice as long as any other column's."""
    lengths = {
        name: sum(len(value) for record in sample if isinstance(value := record.values.get(name), str))
        for name in names
    }
    order = sorted(names, key=lambda name: -lengths[name])
    clear = order and lengths[order[0]] >= 10 * len(sample)
    if not clear or (len(order) > 1 and lengths[order[0]] < 2 * lengths[order[1]]):
        raise Refusal("dataset.which_column", role="text", option="--text-column", columns=_listed(order))
    return order[0]


def _few_values(sample: Sequence[Record], names: list[str]) -> str:
    """The only column that repeats a few short values."""

    def fits(name: str) -> bool:
        values = [record.values.get(name) for record in sample]
        if not all(isinstance(value, str | int) and str(value).strip() for value in values):
            return False
        distinct = {str(value) for value in values}
        return 2 <= len(distinct) <= min(MAX_LABELS, len(values) // 2) and max(map(len, distinct)) <= 100

    candidates = [name for name in names if fits(name)]
    if len(candidates) != 1:
        columns = _listed(candidates or names)
        raise Refusal("dataset.which_column", role="label", option="--label-column", columns=columns)
    return candidates[0]
