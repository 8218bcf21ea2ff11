"""Words with tags as whole runs: three hospitals, two with CoNLL files and one with JSON lines, real agents
and enclaves, both methods."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.site_agent.trial import Agent, Trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Sentence = list[tuple[str, str]]


def sentences(seed: int, count: int) -> list[Sentence]:
    draw = random.Random(seed)
    drugs, signs = ("aspirin", "insulin", "morphine"), ("fever", "chest pain", "rash")
    found = []
    for number in range(count):
        drug, sign = draw.choice(drugs), draw.choice(signs).split()
        found.append(
            [
                (f"case{number}", "O"),
                ("of", "O"),
                (str(seed), "O"),
                *((word, "I-SIGN" if place else "B-SIGN") for place, word in enumerate(sign)),
                ("given", "O"),
                (drug, "B-DRUG"),
            ]
        )
    return found


def as_conll(rows: list[Sentence]) -> str:
    return "\n".join("".join(f"{word} {tag}\n" for word, tag in row) for row in rows)


def as_json(rows: list[Sentence]) -> str:
    lines = ({"tokens": [word for word, _ in row], "tags": [tag for _, tag in row]} for row in rows)
    return "".join(json.dumps(line) + "\n" for line in lines)


class Tagged(Trial):
    """Hospitals with sentences of their own."""

    def offer(self, agent: Agent, name: str, train: int, *, public: bool = False) -> None:
        write, ending = (as_json, "jsonl") if name == "clara" else (as_conll, "conll")
        file = self.folder / f"{name}.{ending}"
        file.write_text(write(sentences(len(self.agents), train)))
        agent.run("dataset", "add", str(file), "--tokens-column", "tokens", "--tags-column", "tags", "--yes")


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Tagged]:
    running = Tagged(tmp_path)
    try:
        running.start()
        running.installation.manage("register_model", running.model, "--task", "token-classification")
        yield running
    finally:
        running.stop()


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param({"rank": 4, "alpha": 8}, id="method-1", marks=pytest.mark.long),
        pytest.param({"method": "method-2", "cut": 1}, id="method-2", marks=pytest.mark.long),
        pytest.param({"placement": "masked", "rank": 4, "alpha": 8}, id="masked", marks=pytest.mark.long),
    ],
)
def test_three_hospitals_tag_words_and_the_receipt_tells_f1_of_entities(
    trial: Tagged, plan: dict[str, Any]
) -> None:
    for name in ("anna", "berta", "clara"):
        trial.enrol(name, 80)
    _manifest, run = trial.launched(rounds=1, task="token-classification", **plan)
    row = trial.ended(run, 400)
    assert row["state"] == "finished", (row, *(trial.log(name) for name in trial.agents))
    reported = json.loads(row["summary"])["test"]
    assert reported["rows"] >= 20 and 0 <= reported["micro_f1"] <= 1 and 0 <= reported["word_accuracy"] <= 1
    assert not {"confusion", "cell", "auroc"} & set(reported)
