"""How the rounds of a run were averaged, as their receipts say it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from contracts.receipts import Spent
from contracts.refusal import Refusal
from enclave_jobs.runs.models import Round
from privacy_accounting.epsilon import epsilon, spent_by, spent_so_far


def averaged_rounds(rounds: Iterable[Round]) -> list[dict[str, Any]]:
    """One line for each round that made new parameters: the receipt's averaging, privacy and deviation."""
    lines = []
    for row in rounds:
        receipt = (row.receipt or {}).get("receipt", {})
        if receipt.get("averaging"):
            averaging = receipt["metrics"].get("averaging", {})
            lines.append(
                {
                    "round": row.number,
                    "averaging": receipt["averaging"],
                    "privacy": worth(receipt.get("privacy")),
                    "deviation": averaging.get("deviation"),
                }
            )
    return lines


def worth(stated: Any, site: str | None = None) -> dict[str, Any] | None:
    """A receipt's privacy parameters (decoded JSON) with the epsilon that they come to: of one hospital, or
    of the one where it is worst. Epsilon is None where the accountant cannot tell, or the receipt is of an
    older version."""
    if not stated:
        return None
    try:
        spent = msgspec.convert(stated, Spent)
        if site is None:
            found: float | None = spent_so_far(spent)
        else:
            found = epsilon(spent_by(spent, site), spent.delta)
    except (msgspec.ValidationError, Refusal):
        found = None
    return {**stated, "epsilon": found}
