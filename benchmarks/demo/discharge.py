"""Synthetic discharge questions for the demo of a language model: a note, and who sees the patient when.

All of it is made up here; no note of any patient was used. An answer follows rules that no model can know
from elsewhere and that all hospitals share: which clinic a diagnosis goes to, how many days that clinic waits
(half of it where something speaks against waiting), and who makes the call. Each hospital meets mostly its
own third of the diagnoses. The same arguments give the same rows.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

CLINICS = {
    "heart": (28, ("heart failure", "atrial fibrillation", "an infarction")),
    "lung": (14, ("pneumonia", "an asthma attack", "COPD")),
    "kidney": (10, ("kidney failure", "a kidney stone", "a kidney infection")),
    "bone": (42, ("a hip fracture", "a wrist fracture", "a knee replacement")),
    "brain": (30, ("a stroke", "a seizure", "a concussion")),
    "bowel": (20, ("a bowel resection", "appendicitis", "diverticulitis")),
}
WORRIES = (
    "still feverish",
    "weak on her feet",
    "with a rising creatinine",
    "with an open wound",
    "confused at night",
)
CALM = ("stable", "eating well", "walking alone", "free of pain", "in good spirits")
ALONE = ("lives alone", "has no telephone", "speaks little English", "is hard of hearing")
HELPED = ("lives with her husband", "is cared for by a daughter", "lives with friends", "lives in a home")
HOSPITALS = 3
HOME_WEIGHT = 4.0
"""How much more often a hospital meets its own third of the diagnoses than one of the others'."""
SPLITS = ("train", "validation", "test")


def write_questions(out: Path, *, hospital: int, rows: tuple[int, int, int], seed: int) -> None:
    """Write so many training, validation and test rows of a hospital (1 to 3) as JSON lines {prompt,
    response, split}."""
    draw = random.Random(f"fedslice discharge {hospital} {seed}")
    with out.open("w") as file:
        for split, count in zip(SPLITS, rows, strict=True):
            for prompt, response in _rows(draw, hospital, count):
                file.write(json.dumps({"prompt": prompt, "response": response, "split": split}) + "\n")


def _rows(draw: random.Random, hospital: int, count: int) -> Iterator[tuple[str, str]]:
    known = [(clinic, wait, name) for clinic, (wait, names) in CLINICS.items() for name in names]
    weights = [HOME_WEIGHT if place % HOSPITALS == hospital - 1 else 1.0 for place in range(len(known))]
    for _ in range(count):
        clinic, wait, diagnosis = draw.choices(known, weights)[0]
        worry, alone = draw.random() < 0.5, draw.random() < 0.5
        state, home = draw.choice(WORRIES if worry else CALM), draw.choice(ALONE if alone else HELPED)
        days = wait // 2 if worry else wait
        caller = "we call" if alone else "she calls"
        prompt = f"Woman of {draw.randint(41, 96)} after {diagnosis}, {state}, {home}. Follow-up?"
        yield prompt, f"{clinic} clinic in {days} days, {caller}"
