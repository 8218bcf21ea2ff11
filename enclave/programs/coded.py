"""Which scores of several labels, tags or choices are believed and told (several.py, tags.py, choices.py).
Runs inside both server enclaves; loaded where a manifest asks for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.entities import types_of
from contracts.kinds import CHOSEN, TAGGED
from contracts.manifest import Manifest
from enclave.training.metrics import Scores


def check_coded(scores: Scores, manifest: Manifest, *, tables: bool) -> None:
    """Raises: `metrics.mismatch`."""
    labels = manifest.model.labels
    if manifest.model.task == "token-classification":
        from enclave.programs.tags import check_tags

        return check_tags(scores, len(types_of(labels)))
    if manifest.coded == CHOSEN:
        from enclave.programs.choices import check_choices

        return check_choices(scores)
    from enclave.programs.several import check_several

    return check_several(scores, len(labels), tables=tables)


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
