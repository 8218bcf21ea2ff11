"""Runs as the columns of a table: a pinned one, as many beside it as fit, and what differs first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l

from frontend.comparison import Compared, differing, title_of, trained_rounds
from frontend.intervals import sure
from frontend.templatetags.fedslice import amount, decimals, duration, score, size

BESIDE = 4
"""Runs that stand beside the pinned one: five columns and their names fit into 1280 px."""


@dataclass(frozen=True)
class Figure:
    """A number of a run: its name, how it is read and shown, and how far it is from the pinned run's."""

    title: str | Promise
    of: Callable[[Compared], float | None]
    shown: Callable[[Any], str]
    apart: Callable[[float], str]


def _points(difference: float) -> str:
    return _("%(points)s points") % {"points": _signed(100 * difference, 1)}


def _signed(difference: float, digits: int = 3) -> str:
    return f"{difference:+.{digits}f}".replace("-", "−")


def _sized(difference: float) -> str:
    return ("+" if difference > 0 else "−") + size(abs(int(difference)))


def _counted(difference: float) -> str:
    return ("+" if difference > 0 else "−") + amount(abs(int(difference)))


def _timed(difference: float) -> str:
    return ("+" if difference > 0 else "−") + duration(abs(difference))


def _written(exactly: Promise, f1: Promise, rouge: Promise, *, test: bool) -> tuple[Figure, ...]:
    """What a language model's answers come to; no other run has these lines."""

    def of(name: str) -> Callable[[Compared], float | None]:
        return lambda run: (run.test if test else run.scores).get(name)

    names = {"exact_match": exactly, "token_f1": f1, "rouge_l": rouge}
    return tuple(Figure(title, of(name), score, _points) for name, title in names.items())


SCORES = (
    Figure(_l("Accuracy, validation"), lambda run: run.accuracy, score, _points),
    Figure(_l("Macro-F1, validation"), lambda run: run.macro_f1, score, _points),
    *_written(
        _l("Written exactly, validation"), _l("Token F1, validation"), _l("ROUGE-L, validation"), test=False
    ),
    Figure(_l("Loss, validation"), lambda run: run.loss, decimals, _signed),
    Figure(_l("Best round"), lambda run: run.best_round, str, lambda n: _signed(n, 0)),
)
TEST = (
    Figure(_l("Accuracy, test"), lambda run: run.test_accuracy, score, _points),
    *_written(_l("Written exactly, test"), _l("Token F1, test"), _l("ROUGE-L, test"), test=True),
)
COSTS = (
    Figure(_l("Rounds published"), trained_rounds, str, lambda n: _signed(n, 0)),
    Figure(_l("Trained parameters"), lambda run: run.trained, amount, _counted),
    Figure(_l("Optimizer memory"), lambda run: run.optimizer, size, _sized),
    Figure(_l("Sealed bytes up"), lambda run: run.bytes_up, size, _sized),
    Figure(_l("Time"), lambda run: run.seconds, duration, _timed),
)


@dataclass(frozen=True)
class ComparedLine:
    """One row of the table. Of each column: what stands there, `more` below it, and whether it is another
    value than the pinned run's."""

    title: str
    cells: list[dict[str, Any]]


@dataclass(frozen=True)
class Beside:
    """The table: its columns with the pinned run first, groups of lines by their heading, and the parts of
    the other runs, each by number and range, of which `part` is shown."""

    columns: list[Compared]
    groups: list[tuple[str, list[ComparedLine]]]
    parts: list[tuple[int, str]] = field(default_factory=list)
    part: int = 1


def beside(rows: Sequence[Compared], base: str, part: str, everything: bool) -> Beside:
    """The runs side by side, `base` pinned (the first one where it is not among them). `everything` shows the
    settings that are the same in all runs, too."""
    if not rows:
        return Beside([], [])
    pinned = next((row for row in rows if row.run.pk == base), rows[0])
    others = [row for row in rows if row is not pinned]
    starts = range(0, len(others), BESIDE)
    parts = [
        (n, f"{start + 2}\u2013{min(start + BESIDE, len(others)) + 1}") for n, start in enumerate(starts, 1)
    ]
    chosen = int(part) if part.isdecimal() and 1 <= int(part) <= len(parts) else 1
    columns = [pinned, *others[BESIDE * (chosen - 1) : BESIDE * chosen]]
    apart = differing(rows)
    same = [
        name for name in dict.fromkeys(name for row in rows for name in row.settings) if name not in apart
    ]
    groups = [
        (_("What differs"), [_setting(name, columns) for name in apart]),
        (_("How well"), [line for figure in SCORES if (line := _figure(figure, columns))]),
        (_("Test rows, opened once"), [line for figure in TEST if (line := _figure(figure, columns))]),
        (_("What it cost"), [line for figure in COSTS if (line := _figure(figure, columns))]),
        (_("The same in all"), [_setting(name, columns) for name in same if everything]),
    ]
    shown = [(heading, lines) for heading, lines in groups if lines]
    return Beside(columns, shown, parts if len(parts) > 1 else [], chosen)


def _setting(name: str, columns: list[Compared]) -> ComparedLine:
    values = [column.settings.get(name) for column in columns]
    cells = [
        {"text": "\u2013" if value is None else str(value), "more": "", "differs": value != values[0]}
        for value in values
    ]
    return ComparedLine(title_of(name), cells)


def _figure(figure: Figure, columns: list[Compared]) -> ComparedLine | None:
    """None where no run has this number."""
    values = [figure.of(column) for column in columns]
    if all(value is None for value in values):
        return None
    cells = []
    for value, column in zip(values, columns, strict=True):
        more = ""
        if value is not None and values[0] is not None and value != values[0]:
            more = figure.apart(value - values[0])
        cells.append(
            {
                "text": figure.shown(value),
                "more": more,
                "differs": False,
                "sure": sure(column.scores) if figure is SCORES[0] else None,
            }
        )
    return ComparedLine(str(figure.title), cells)
