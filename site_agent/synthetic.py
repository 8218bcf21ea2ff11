"""Synthetic triage notes for trials: made up from site_agent/synthetic_words.py, and marked so in every row.

They are meant to be a fair exercise for three hospitals. Each knows mostly its own third of the complaints,
sees some categories seldom, writes in its own style, and mentions in most notes a complaint that does not
count (denied, long ago, somebody else's). A part of the rows is mislabelled, as in life. What a model learns
at one hospital is thus too little for the others' patients, and together they have it all.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from site_agent.files import replacing
from site_agent.synthetic_words import (
    ARRIVALS,
    COMPLAINTS,
    DISTRACTIONS,
    NOISE,
    PEOPLE,
    SINCE,
    STYLES,
)

HOSPITALS = 3
LABELS = tuple(COMPLAINTS)
MARK = "[synthetic]"
HOME_WEIGHT = 12.0
"""How much more often a hospital meets its own third of the complaints than one of the others'."""
SELDOM_WEIGHT = 0.3
MISLABELLED = 0.03
TYPOS = 0.15


def write_notes(out: Path, *, hospital: int, rows: int, seed: int) -> None:
    """Write `rows` notes of a hospital (1 to 3) as JSON lines {text, label, site, synthetic}.

    The same arguments give the same bytes.
    """
    with replacing(out) as file:
        for note in notes(hospital=hospital, rows=rows, seed=seed):
            file.write(json.dumps(note).encode() + b"\n")


def notes(*, hospital: int, rows: int, seed: int) -> Iterator[dict[str, object]]:
    """The notes one by one."""
    draw = random.Random(f"fedslice synthetic {hospital} {seed}")  # noqa: S311  no secret
    weights = [SELDOM_WEIGHT if index % HOSPITALS == hospital - 1 else 1.0 for index in range(len(LABELS))]
    for _ in range(rows):
        label = draw.choices(LABELS, weights)[0]
        text = _text(draw, hospital, label)
        written_label = draw.choice(LABELS) if draw.random() < MISLABELLED else label
        yield {
            "text": f"{text} {MARK}",
            "label": written_label,
            "site": f"hospital-{hospital}",
            "synthetic": True,
        }


def _text(draw: random.Random, hospital: int, label: str) -> str:
    age = draw.randint(1, 97)
    arrival = draw.choice(ARRIVALS)
    distractions = [
        draw.choice(DISTRACTIONS).format(other=_complaint(draw, hospital, _other(draw, label)))
        for _ in range(draw.choice((1, 1, 2)))
    ]
    text = draw.choice(STYLES[hospital]).format(
        age=age,
        sex=draw.choice("MF"),
        p=draw.choice(PEOPLE),
        arrival=arrival,
        arrival_was=arrival if arrival.startswith("walked") else f"came {arrival}",
        since=draw.choice(SINCE),
        c=_complaint(draw, hospital, label),
        d=", ".join(distractions),
        n=", ".join(draw.sample(NOISE, draw.choice((1, 2)))),
    )
    return _with_typo(draw, text) if draw.random() < TYPOS else text


def _complaint(draw: random.Random, hospital: int, label: str) -> str:
    complaints = COMPLAINTS[label]
    weights = [HOME_WEIGHT if i % HOSPITALS == hospital - 1 else 1.0 for i in range(len(complaints))]
    return draw.choices(complaints, weights)[0]


def _other(draw: random.Random, label: str) -> str:
    return draw.choice([other for other in LABELS if other != label])


def _with_typo(draw: random.Random, text: str) -> str:
    """Two neighbouring letters change places."""
    at = draw.randrange(len(text) - 1)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
