"""Texts with any number of labels as whole runs: three hospitals whose files have them in three ways, real
agents and enclaves, both methods."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.site_agent.trial import Agent, Trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LABELS = ("cough", "fever", "rash")
WORDS = {"cough": "chest", "fever": "hot", "rash": "skin"}


def notes(seed: int, count: int) -> list[tuple[str, tuple[str, ...]]]:
    draw = random.Random(seed)
    found = []
    for number in range(count):
        has = tuple(label for label in LABELS if draw.random() < 0.45)
        said = " ".join(WORDS[label] for label in has)
        found.append((f"case {number} of {seed}: {said} seen today", has))
    return found


def as_lists(rows: list[tuple[str, tuple[str, ...]]]) -> str:
    return "".join(json.dumps({"text": text, "labels": has}) + "\n" for text, has in rows)


def as_parted(rows: list[tuple[str, tuple[str, ...]]]) -> str:
    return "text,codes\n" + "".join(f"{text},{'; '.join(has)}\n" for text, has in rows)


def as_flags(rows: list[tuple[str, tuple[str, ...]]]) -> str:
    lines = (",".join([text, *(str(int(label in has)) for label in LABELS)]) for text, has in rows)
    return f"text,{','.join(LABELS)}\n" + "\n".join(lines) + "\n"


WAYS: dict[str, Any] = {
    "anna": ("notes.jsonl", as_lists, ("--labels-column", "labels")),
    "berta": ("notes.csv", as_parted, ("--labels-column", "codes", "--label-separator", ";")),
    "clara": ("notes.csv", as_flags, [part for name in LABELS for part in ("--labels-column", name)]),
}


class Labelled(Trial):
    """Hospitals with notes of their own."""

    def offer(self, agent: Agent, name: str, train: int, *, public: bool = False) -> None:
        named, write, options = WAYS[name]
        file = self.folder / f"{name}-{named}"
        file.write_text(write(notes(len(self.agents), train)))
        agent.run("dataset", "add", str(file), "--text-column", "text", *options, "--yes")


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Labelled]:
    running = Labelled(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param({"rank": 4, "alpha": 8}, id="method-1"),
        pytest.param({"method": "method-2", "cut": 1}, id="method-2", marks=pytest.mark.long),
        pytest.param({"placement": "masked", "rank": 4, "alpha": 8}, id="masked", marks=pytest.mark.long),
    ],
)
def test_three_hospitals_decide_each_label_and_the_receipt_says_how_well(
    trial: Labelled, plan: dict[str, Any]
) -> None:
    for name in WAYS:
        trial.enrol(name, 80)
    _manifest, run = trial.launched(rounds=1, **plan)
    row = trial.ended(run, 400)
    assert row["state"] == "finished", (row, *(trial.log(name) for name in WAYS))
    reported = json.loads(row["summary"])["test"]
    assert (reported["rows"], reported["labels"], reported["cell"]) == (18, 3, 5) or reported["rows"] >= 18
    assert 0 <= reported["micro_f1"] <= 1 and 0 <= reported["accuracy"] <= 1
    assert len(reported["decisions"]) == 3 and all(
        count % 5 == 0 for quad in reported["decisions"] for count in quad
    )
    assert "confusion" not in reported and len(reported["reliability"][0]) == 10
