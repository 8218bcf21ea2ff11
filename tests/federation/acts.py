"""What several tests of studies do."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.refusal import Refusal
from enclave_jobs.runs.models import Run
from federation.attestation.models import LogEntry
from federation.studies.models import Approval, Event, Study


def refused(code: str, act: Any, *arguments: Any) -> None:
    """The action is refused by this code, and studies, approvals, runs and log are as before."""

    def everything() -> list[Any]:
        return [list(table.objects.values()) for table in (Study, Approval, Run, Event, LogEntry)]

    before = everything()
    with pytest.raises(Refusal) as refusal:
        act(*arguments)
    assert refusal.value.code == code
    assert everything() == before
