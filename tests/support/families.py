"""Which families a test tries in every run, and which only in `make test-long`.

Five stand for the others: an encoder, GPT-2's way round, separate projections, tied tables with a window, a
fused MLP. Each other family has a short member of each kind of test, and all of it in the long ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

ALWAYS = ("bert", "gpt2", "llama", "qwen3", "glm4")


def tried(cases: Iterable[Any]) -> list[Any]:
    """The cases (a family's name, or tuples that begin with one), the rarer ones marked `long`."""
    made = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        made.append(pytest.param(*values, marks=() if values[0] in ALWAYS else pytest.mark.long))
    return made
