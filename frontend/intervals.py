"""How sure a score is: thirty rows are not "80.0 %"."""

from __future__ import annotations

from math import sqrt
from typing import Any

Z95 = 1.959964


def wilson(part: float, rows: int) -> tuple[float, float]:
    """The 95 % confidence interval of a fraction that was counted on so many rows (Wilson 1927): it stays
    between 0 and 1 and holds for few rows, where it ± 1.96 standard errors does not."""
    spread = Z95**2 / rows
    middle = (part + spread / 2) / (1 + spread)
    half = Z95 * sqrt(part * (1 - part) / rows + spread / (4 * rows)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def sure(scores: dict[str, Any]) -> dict[str, Any] | None:
    """`low`, `high`, `rows` of an accuracy of rows. None where it counts tokens, which are not independent of
    each other, or where the number of rows is not told."""
    part, rows = scores.get("accuracy"), scores.get("rows")
    if part is None or not rows or not 0 <= part <= 1:
        return None
    low, high = wilson(part, rows)
    return {"low": low, "high": high, "rows": rows}
