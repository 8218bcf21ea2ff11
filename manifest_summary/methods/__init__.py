"""What people are told of a method of training (docs/decisions/0031-methods-are-objects.md)."""

from __future__ import annotations

from contracts.manifest import Manifest
from manifest_summary.methods import method_1, method_2
from manifest_summary.methods.interface import Method

METHODS: dict[str, Method] = {"method-1": method_1, "method-2": method_2}
"""By the name that a manifest gives it."""


def of(manifest: Manifest) -> Method:
    """The method of the manifest's run."""
    return METHODS[manifest.method]
