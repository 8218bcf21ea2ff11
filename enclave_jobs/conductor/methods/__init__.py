"""The methods of training as the conductor sees them: which steps of a run differ, and in what.

`interface.py` says what a method is asked; a module for each method answers. A method imports no step of the
conductor (rounds, joining, …): these ask it. docs/decisions/0031-methods-are-objects.md has the reasons.
"""

from __future__ import annotations

from contracts.manifest import Manifest
from enclave_jobs.conductor.methods import method_1, method_2
from enclave_jobs.conductor.methods.interface import Method
from enclave_jobs.runs.models import Run
from federation.frozen import manifest_of

METHODS: dict[str, Method] = {"method-1": method_1, "method-2": method_2}
"""By the name that a manifest gives it."""


def of(manifest: Manifest) -> Method:
    """The method of the manifest's runs."""
    return METHODS[manifest.method]


def of_run(run: Run) -> Method:
    """The method of a run.

    Raises: as `manifest_of`.
    """
    return of(manifest_of(run))
