"""The studies that are written down in docs/studies are plans that the product reads."""

import json
from pathlib import Path

import pytest

from federation.studies.plan import Plan, read

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "studies"
FILES = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_study_that_is_written_down_is_a_plan(file: Path) -> None:
    found = json.loads(file.read_text())
    plan = read(found)
    assert {name: getattr(plan, name) for name in found if name != "targets"} == {
        name: value for name, value in found.items() if name != "targets"
    }
    assert f"`{file.name}`" in (FOLDER / "README.md").read_text()


def test_the_medical_recipe_is_flowers() -> None:
    plan: Plan = read(json.loads((FOLDER / "flowertune-medical-7b.json").read_text()))
    assert (plan.rank, plan.alpha, plan.targets) == (32, 64, ("q_proj", "v_proj"))
    assert (plan.rounds, plan.batch_size, plan.max_tokens, plan.learning_rate) == (200, 16, 512, 5e-5)
    assert (plan.schedule, plan.task) == ("cosine", "causal-lm")
