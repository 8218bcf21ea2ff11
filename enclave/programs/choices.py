"""Scores of chosen answers, published as far as rows support.

`accuracy` is the share of rows of which the right choice is the likeliest; macro-F1 is over the choices'
places. All else is as of any language model (enclave/training/choices.py). Runs inside both server
enclaves; loaded by runs over datasets of the kind `prompt-choices` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from contracts.rows import MOST_CHOICES
from enclave.programs.publication import LEAST_OF_A_LABEL, grain, rounded, to_grain
from enclave.training import rates
from enclave.training.metrics import Scores


def rounded_of_choices(scores: Scores, known: Sequence[Scores]) -> dict[str, Any]:
    """As `publication.rounded`. Macro-F1 looks at places alone: it is withheld where one that is right
    somewhere, or is chosen somewhere, is right for few rows."""
    table, fine = scores.confusion, grain(scores.rows)
    numbers = rounded(replace(scores, confusion=()), ())
    chosen = sum(table[place][place] for place in range(MOST_CHOICES))
    numbers["accuracy"] = to_grain(rates.fraction(scores, chosen), fine)
    used = [place for place in range(MOST_CHOICES) if sum(table[place]) + sum(row[place] for row in table)]
    rarest = min((sum(part.confusion[place]) for part in known for place in used), default=0)
    if rarest >= LEAST_OF_A_LABEL:
        numbers["macro_f1"] = to_grain(rates.macro_f1(scores), grain(rarest))
    return numbers
