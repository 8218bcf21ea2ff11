"""The demo of a language model on real data: who gets which rows, and what a study of it asks for."""

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.demo.language import METHOD_1, ROWS, LanguageStory, deal_files
from contracts.architecture.front import require_layer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 3 * ROWS[0] + 30), ("test", 9)):
        with gzip.open(tmp_path / f"{split}.jsonl.gz", "wt") as lines:
            for number in range(count):
                row = {
                    "prompt": f"{split} {number}",
                    "response": "yes",
                    "source": "a column that is not used",
                }
                lines.write(json.dumps(row) + "\n")
    return tmp_path


def test_real_rows_are_dealt_out_once_as_many_as_a_hospital_of_the_demo_has(folder: Path) -> None:
    dealt = []
    for number in (1, 2, 3):
        deal_files(folder, folder / "out.jsonl", number)
        rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
        assert [sum(row["split"] == split for row in rows) for split in ("train", "validation", "test")] == [
            80,
            0,
            3,
        ]
        assert all(set(row) == {"prompt", "response", "split"} for row in rows)
        dealt += [row["prompt"] for row in rows]
    assert len(dealt) == len(set(dealt))


@pytest.mark.parametrize("method", ["method-1", "method-2"])
def test_both_methods_tune_the_same_last_layers(method: str) -> None:
    plan = LanguageStory.plan_of(None, "all_in_tee", method)  # type: ignore[arg-type]
    first = plan.front if method == "method-1" else plan.cut
    require_layer(30, first)
    assert first == METHOD_1["front"] and plan.task == "causal-lm"
    assert (plan.release == "serve-only") == (method == "method-2"), "Method 1's models are not served"
