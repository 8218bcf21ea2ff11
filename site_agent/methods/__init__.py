"""The methods of training as a hospital meets them: how its agent takes part. What its people are told is in
`manifest_summary/methods/`.

`interface.py` says what a method is asked; a package for each method answers.
docs/decisions/0031-methods-are-objects.md has the reasons.
"""

from __future__ import annotations

from contracts.manifest import Manifest
from site_agent.methods import method_1, method_2
from site_agent.methods.interface import Method

METHODS: dict[str, Method] = {"method-1": method_1, "method-2": method_2}
"""By the name that a manifest gives it."""


def of(manifest: Manifest) -> Method:
    """The method of the manifest's run."""
    return METHODS[manifest.method]
