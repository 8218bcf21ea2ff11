"""The methods of training as a study plans them: what a plan is frozen to, and what its runs can do later.

`interface.py` says what a method is asked; a module for each method answers.
docs/decisions/0031-methods-are-objects.md has the reasons.
"""

from __future__ import annotations

from federation.studies.methods import method_1, method_2
from federation.studies.methods.interface import Method

METHODS: dict[str, Method] = {"method-1": method_1, "method-2": method_2}
"""By the name that a plan or a manifest gives it."""


def named(name: str) -> Method:
    """The method of this name, as a plan or a manifest has it."""
    return METHODS[name]
