"""What hospitals are asked for beside the study itself (its release, its serving), told by whoever asks.

Who builds on the control plane registers each of these when Django starts (enclave_jobs/apps.py)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from contracts.refusal import Refusal
from federation.sites.models import Site
from federation.studies.models import Study


class Subject(Protocol):
    """One kind of request about a study's last run, named as in `models.About`."""

    about: str

    def asked(self, study: Study) -> str | None:
        """The id of the run that hospitals are asked about; None where nothing was asked."""

    def waits_for(self, study: Study, site: Site) -> bool:
        """Whether it still waits for this hospital's signature."""

    def signed(self, study: Study) -> Iterable[tuple[str, datetime]]:
        """The ids of the hospitals that have signed, each with the time."""


SUBJECTS: dict[str, Subject] = {}


def register(subject: Subject) -> None:
    """From now on hospitals can speak about it."""
    SUBJECTS[subject.about] = subject


def of(about: str) -> Subject:
    """Raises: `thread.not_asked` for what nobody asks."""
    if about not in SUBJECTS:
        raise Refusal("thread.not_asked")
    return SUBJECTS[about]
