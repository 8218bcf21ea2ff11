"""What a round of a run is called and how it stands: the last two train nothing, none outlives its run."""

from __future__ import annotations

from django.utils.translation import gettext as _

from enclave_jobs.runs.models import Round, RoundKind, RoundState, Run, RunState
from frontend.templatetags.fedslice import tone

ENDED = (RunState.FINISHED, RunState.FAILED, RunState.CANCELLED)


def title_of(round: Round, total: int | None) -> str:
    """ "Round 3 of 6"; what comes after the sixth only scores, and has names instead of numbers."""
    if round.kind == RoundKind.TEST:
        return _("Test")
    if round.kind == RoundKind.EVALUATE or (total is not None and round.number > total):
        return _("Closing evaluation")
    if total is None:
        return _("Round %(number)s") % {"number": round.number}
    return _("Round %(number)s of %(total)s") % {"number": round.number, "total": total}


def badge_of(round: Round, run: Run) -> dict[str, str]:
    """A round's badge: `tone` and `label`. A round that was open when its run ended stays as it was in the
    record; people are told that it was not finished."""
    if run.state in ENDED and round.state not in (RoundState.PUBLISHED, RoundState.FAILED):
        return {"tone": "", "label": _("not finished")}
    return {"tone": tone(round.state), "label": str(round.get_state_display())}
