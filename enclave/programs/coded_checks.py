"""Which scores of several labels, tags or choices of a contribution are believed. Runs inside the aggregator,
which alone takes scores from others; loaded where a manifest asks for one of them."""

from __future__ import annotations

from msgspec.structs import replace

from contracts.entities import types_of
from contracts.kinds import CHOSEN
from contracts.manifest import Manifest
from contracts.refusal import Refusal
from contracts.rows import MOST_CHOICES
from enclave.training.metrics import Scores


def check_coded(scores: Scores, manifest: Manifest, *, tables: bool) -> None:
    """Raises: `metrics.mismatch`."""
    labels = manifest.model.labels
    if manifest.model.task == "token-classification":
        from enclave.programs.tags import check_tags

        return check_tags(scores, len(types_of(labels)))
    if manifest.coded == CHOSEN:
        return check_choices(scores)
    from enclave.programs.several import check_several

    return check_several(scores, len(labels), tables=tables)


def check_choices(scores: Scores) -> None:
    """Raises: `metrics.mismatch` where scores of another party contradict themselves."""
    from enclave.programs.opening import check

    table = scores.confusion
    check(replace(scores, confusion=()), 0)
    if len(table) != MOST_CHOICES or any(len(row) != MOST_CHOICES for row in table):
        raise Refusal("metrics.mismatch")
    if sum(map(sum, table)) != scores.rows:
        raise Refusal("metrics.mismatch")
