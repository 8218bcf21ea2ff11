"""Where a run stands, so that a step that was overtaken cannot judge it.

Two workers may work on one run at once. The slower one may find things as it did not expect them, because the
faster one has moved the run on. Its refusal then means nothing: only a step that still stands where it began
may fail a run or give up an enclave.
"""

from __future__ import annotations

from typing import NamedTuple

from enclave_jobs.enclaves.models import Enclave
from enclave_jobs.runs.models import Round, Run


class Position(NamedTuple):
    """The run's state, its newest enclave with that one's state, and its newest round with that one's
    state."""

    run: str
    enclave: tuple[int, str] | None
    round: tuple[int, str] | None


def position(run_id: str) -> Position | None:
    """The run's position now; None where there is no such run."""
    state = Run.objects.filter(pk=run_id).values_list("state", flat=True).first()
    if state is None:
        return None
    enclave = Enclave.objects.filter(run_id=run_id).order_by("-epoch").values_list("epoch", "state").first()
    round = Round.objects.filter(run_id=run_id).order_by("-number").values_list("number", "state").first()
    return Position(state, enclave, round)
