"""Class numbers that a program wrote as decimal fractions: 0.0, 1.0, 2.0. pandas does so with every column of
whole numbers that has a gap."""

from __future__ import annotations

import re
from collections.abc import Collection

from site_agent.datasets.missing import looks_missing

_WHOLE = re.compile(r"(-?[1-9][0-9]*|0)\.0")


def whole_numbers(labels: Collection[str]) -> dict[str, str]:
    """What each label is as a whole number, if all of them are written so (words for nothing aside); else
    nothing. Where one stands as 1 and another as 1.0 or 1.5 it is not certain, and nothing is changed."""
    found = {label: _WHOLE.fullmatch(label) for label in labels if not looks_missing(label)}
    if not all(found.values()):
        return {}
    return {label: match[1] for label, match in found.items() if match}
