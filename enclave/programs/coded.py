"""Which scores of several labels, or of tags, are believed and told (several.py, tags.py). Runs inside both
server enclaves; loaded where a manifest asks for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.entities import types_of
from contracts.kinds import TAGGED
from contracts.manifest import Manifest
from enclave.training.metrics import Scores


def check_coded(scores: Scores, manifest: Manifest, *, tables: bool) -> None:
    """Raises: `metrics.mismatch`."""
    labels = manifest.model.labels
    if manifest.model.task == "token-classification":
        from enclave.programs.tags import check_tags

        return check_tags(scores, len(types_of(labels)))
    from enclave.programs.several import check_several

    return check_several(scores, len(labels), tables=tables)


def rounded_of_coded(scores: Scores, known: Sequence[Scores], cells: int, coded: str) -> dict[str, Any]:
    """As `publication.rounded`, for rows of the kind `coded`."""
    if coded == TAGGED:
        from enclave.programs.tags import rounded_of_tags

        return rounded_of_tags(scores, known)
    from enclave.programs.several import rounded_of_several

    return rounded_of_several(scores, known, cells)
