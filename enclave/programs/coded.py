"""Which scores of several labels, tags or choices are published (several.py, tags.py, choices.py). Runs
inside both server enclaves; loaded where a manifest asks for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.kinds import CHOSEN, TAGGED
from enclave.training.metrics import Scores


def rounded_of_coded(scores: Scores, known: Sequence[Scores], cells: int, coded: str) -> dict[str, Any]:
    """As `publication.rounded`, for rows of the kind `coded`."""
    if coded == TAGGED:
        from enclave.programs.tags import rounded_of_tags

        return rounded_of_tags(scores, known)
    if coded == CHOSEN:
        from enclave.programs.choices import rounded_of_choices

        return rounded_of_choices(scores, known)
    from enclave.programs.several import rounded_of_several

    return rounded_of_several(scores, known, cells)
