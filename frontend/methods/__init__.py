"""What pages say and ask differently by method (docs/decisions/0031-methods-are-objects.md)."""

from __future__ import annotations

from frontend.methods import method_1, method_2
from frontend.methods.interface import Method

METHODS: dict[str, Method] = {"method-1": method_1, "method-2": method_2}
"""By the name that plans and manifests give it."""


def named(name: object) -> Method:
    """The method of this name; Method 1 for a draft that says none yet."""
    return METHODS.get(str(name), method_1)
