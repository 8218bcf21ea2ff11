"""What a server tells of answers that the model has written itself (enclave/training/writing.py).

Scores carry them as one line of `bins`: how many rows, and the sums of their token F1 and ROUGE-L in
millionths. They are shares of the sampled rows, so they are rounded by the number of these. Runs inside both
server enclaves; loaded where a manifest asks for written answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.refusal import Refusal
from enclave.programs.publication import LEAST_OF_A_LABEL, grain, to_grain
from enclave.training.agreement import ONE
from enclave.training.metrics import Scores


def check_written(scores: Scores) -> None:
    """Look at the line of another party.

    Raises: `metrics.mismatch` for one that cannot be.
    """
    lines = scores.bins
    if len(lines) != 1 or len(lines[0]) != 3:
        raise Refusal("metrics.mismatch")
    rows, *sums = lines[0]
    if not 0 < rows <= scores.rows or max(sums) > ONE * rows:
        raise Refusal("metrics.mismatch")


def facts_of_written(scores: Scores, known: Sequence[Scores]) -> dict[str, Any]:
    """`token_f1` and `rouge_l`, the means over `written_rows`; nothing where a part of the pool that
    hospitals have confirmed (`known`) has too few of them."""
    rows, f1, rouge_l = scores.bins[0]
    if min(part.bins[0][0] for part in known) < LEAST_OF_A_LABEL:
        return {}
    means = {"token_f1": f1 / (ONE * rows), "rouge_l": rouge_l / (ONE * rows)}
    return {"written_rows": rows} | {name: to_grain(mean, grain(rows)) for name, mean in means.items()}
