"""How the rounds of a run were averaged, as their receipts say it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from federation.studies.models import Round


def averaged_rounds(rounds: Iterable[Round]) -> list[dict[str, Any]]:
    """One line for each round that made new parameters: the receipt's averaging, privacy and deviation."""
    lines = []
    for row in rounds:
        receipt = (row.receipt or {}).get("receipt", {})
        if receipt.get("averaging"):
            told = receipt["metrics"].get("averaging", {})
            lines.append(
                {
                    "round": row.number,
                    "averaging": receipt["averaging"],
                    "privacy": receipt.get("privacy"),
                    "deviation": told.get("deviation"),
                }
            )
    return lines
