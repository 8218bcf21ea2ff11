"""Questions with choices as whole runs: three hospitals, real agents and enclaves, both methods."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.decoder import make_decoder
from tests.site_agent.trial import Agent, Trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIGNS = {"fever": "yes", "rash": "no", "cough": "maybe"}


def questions(seed: int, count: int) -> str:
    draw, lines = random.Random(seed), []
    for number in range(count):
        sign = draw.choice(list(SIGNS))
        prompt = f"case {number} of {seed}: {sign}. infection?"
        lines.append(
            json.dumps(
                {"question": prompt, "answer": SIGNS[sign], "choices": [*SIGNS.values(), "no, but watch"]}
            )
        )
    return "\n".join(lines) + "\n"


class Asked(Trial):
    """Hospitals with questions of their own."""

    def offer(self, agent: Agent, name: str, train: int, *, public: bool = False) -> None:
        file = self.folder / f"{name}.jsonl"
        file.write_text(questions(len(self.agents), train))
        columns = (
            "--prompt-column",
            "question",
            "--response-column",
            "answer",
            "--choices-column",
            "choices",
        )
        agent.run("dataset", "add", str(file), *columns, "--yes")


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Asked]:
    running = Asked(tmp_path)
    running.model = str(make_decoder(tmp_path / "decoder", ("yes", "no", "maybe")))
    try:
        running.start()
        named = ("--task", "causal-lm", "--targets", "q_proj")
        running.installation.manage("register_model", running.model, *named)
        yield running
    finally:
        running.stop()


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param({"method": "method-2", "cut": 1}, id="method-2"),
        pytest.param({"rank": 4, "alpha": 8}, id="method-1", marks=pytest.mark.long),
        pytest.param({"placement": "masked", "rank": 4, "alpha": 8}, id="masked", marks=pytest.mark.long),
    ],
)
def test_three_hospitals_choose_answers_and_the_receipt_says_how_often_they_are_right(
    trial: Asked, plan: dict[str, Any]
) -> None:
    """A choice is an example where a question is evaluated on, and a question is a row: all of a hospital's
    are taken, and no more than it has."""
    for name in ("anna", "berta", "clara"):
        trial.enrol(name, 80)
    _manifest, run = trial.launched(rounds=1, task="causal-lm", **{"max_tokens": 32, **plan})
    row = trial.ended(run, 400)
    assert row["state"] == "finished", (
        row["error_code"],
        row["facts"],
        *(trial.log(name) for name in trial.agents),
    )
    reported = json.loads(row["summary"])["test"]
    assert reported["rows"] >= 20 and 0 <= reported["accuracy"] <= 1 and reported["perplexity"] > 1
    query = (
        "select c.state from runs_contribution c join runs_round r on c.round_id = r.id where r.run_id = %s"
    )
    states = [each["state"] for each in trial.rows(query, run)]
    assert len(states) >= 3 and "refused" not in states, states
