"""The demo's other story: three hospitals teach SmolLM2 to answer discharge questions, and then ask it one.

Its scores are of the answers: exact matches, stops and perplexity, before any training and after it, as the
server's enclave has published them for validation rows, and once for test rows. There are no baselines here:
each of them would train the whole model for longer than the demo may last.
"""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.demo.discharge import HOSPITALS, SPLITS, write_questions
from benchmarks.demo.hospital import Hospital
from benchmarks.demo.story import PLAN, Story, say, step
from contracts.manifest import Placement
from contracts.release_check import fingerprint
from contracts.releases import SERVE
from enclave_host.base_models import SMOLLM2
from enclave_jobs.runs.models import Round, Run
from enclave_jobs.serving import services as serving
from federation.people.models import User
from federation.studies.plan import Plan

ROWS = (80, 34, 34)
"""Training, validation and test rows of a hospital."""
CUT = 26
"""Of 30 layers: those behind it are tuned, and all before it run at the hospital."""
LANGUAGE: dict[str, Any] = {
    "model": SMOLLM2,
    "task": "causal-lm",
    "max_tokens": 96,
    "batch_size": 8,
    "learning_rate": 2e-3,
    "targets": (),
    "deadline_seconds": 3000,
}
METHOD_1: dict[str, Any] = {
    "front": CUT,
    "batch_size": 4,
    "targets": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
METHOD_2: dict[str, Any] = {
    "method": "method-2",
    "cut": CUT,
    "attention_ratio": 50.0,
    "dense_ratio": 50.0,
    "release": "serve-only",
}
ANSWER_TOKENS, ASKED_AGAIN = 24, 20


class LanguageStory(Story):
    """As `Story`; `data` is a folder whose lines have `prompt` and `response`."""

    model = SMOLLM2
    task = "causal-lm"
    named = ("--kind", "prompt-response", "--prompt-column", "prompt", "--response-column", "response")
    rows_are = "synthetic discharge questions"
    question = "do three hospitals together teach a language model to answer as they do?"
    run_seconds = 3600.0

    @property
    def title(self) -> str:
        """See `Story.title`."""
        return "Answers of our own" if self.data else "Synthetic discharge questions"

    def plan_of(self, placement: Placement, method: str) -> Plan:
        """See `Story.plan_of`."""
        of_method = METHOD_2 if method == "method-2" else METHOD_1
        return msgspec.structs.replace(PLAN, placement=placement, **{**LANGUAGE, **of_method})

    def afterwards(self, lead: User, run: Run) -> dict[str, Any]:
        """Scores before and after, and in Method 2 an answer of the served model."""
        first = Round.objects.filter(run=run, number=1).get().metrics.get("pooled", {})
        found: dict[str, Any] = {}
        for name in ("exact_match", "stop_rate", "perplexity"):
            found[f"{name}_before"] = first.get(name)
            found[f"{name}_after"] = run.summary.get(name)
            found[f"{name}_test"] = run.summary["test"].get(name)
        answered = self._served(lead, run) if self.plan.method == "method-2" else {}
        weights = "SmolLM2-135M-Instruct, dequantised from its 4-bit GGUF"
        return {**found, **answered, "model": weights, "tail_from_layer": CUT}

    def _served(self, lead: User, run: Run) -> dict[str, Any]:
        """The hospitals sign that the model is served, and one asks it a question of its test rows."""
        with step("the hospitals sign that the model is served, and one asks it"):
            service = serving.start(lead, run)
            for hospital in self.hospitals:
                hospital.agent("approve", "--yes", "--hash", fingerprint(service.receipt, SERVE))
            asker, started = self.hospitals[0], time.monotonic()
            row = next(row for row in _rows(asker.data) if row["split"] == "test")
            answer = _asked(asker, str(run.pk), row["prompt"])
            seconds = time.monotonic() - started
        say(f"  asked:    {row['prompt']}")
        say(f"  answered: {answer}")
        say(f"  wanted:   {row['response']}")
        return {
            "served_answer": answer,
            "served_answer_wanted": row["response"],
            "seconds_first_answer": round(seconds, 1),
        }

    def _files(self) -> list[Path]:
        folder = self.state / "data"
        folder.mkdir(parents=True)
        files = [folder / f"hospital-{number}.jsonl" for number in range(1, HOSPITALS + 1)]
        for number, file in enumerate(files, 1):
            if self.data:
                deal_files(self.data, file, number)
            else:
                write_questions(file, hospital=number, rows=ROWS, seed=1)
        return files


def _asked(hospital: Hospital, run: str, prompt: str) -> str:
    """What the served model answers; its enclave may still be starting."""
    command = ("predict", "--run", run, "--text", prompt, "--json", "--max-new-tokens", str(ANSWER_TOKENS))
    for left in reversed(range(ASKED_AGAIN)):
        try:
            return str(json.loads(hospital.agent(*command))["text"]).strip()
        except RuntimeError:
            if not left:
                raise
            time.sleep(5)
    raise AssertionError("the last try answers or raises")


def _rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def deal_files(folder: Path, out: Path, number: int) -> None:
    """Every third row of the folder's files is a hospital's, as many as ROWS says."""
    with out.open("w") as file:
        for split, count in zip(SPLITS, ROWS, strict=True):
            source = folder / f"{split}.jsonl.gz"
            if not source.is_file():
                continue  # the agent makes a split that is missing out of the training rows
            with gzip.open(source, "rt", encoding="utf-8") as lines:
                mine = [
                    json.loads(line) for place, line in enumerate(lines) if place % HOSPITALS == number - 1
                ]
            for row in mine[:count]:
                reported = {"prompt": row["prompt"], "response": row["response"], "split": split}
                file.write(json.dumps(reported) + "\n")
