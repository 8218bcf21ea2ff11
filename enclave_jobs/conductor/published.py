"""The last published round: what the next one continues."""

from __future__ import annotations

from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT, receipt_hash
from federation.studies.models import Round, RoundState, Run


def last_published(run: Run, *, before: int | None = None) -> Round | None:
    """The run's last published round, or the last one before a round."""
    rounds = Round.objects.filter(run=run, state=RoundState.PUBLISHED).order_by("-number")
    return rounds.first() if before is None else rounds.filter(number__lt=before).first()


def stopped(run: Run) -> bool:
    """Whether the last published round has found that training no longer helps: its scores are the closing
    ones."""
    last = last_published(run)
    return last is not None and bool(last.metrics.get("stopping", {}).get("stopped"))


def previous_hash(round: Round) -> str:
    """The hash of the receipt before this round: what its roster and its own receipt must name."""
    last = last_published(round.run, before=round.number)
    return NO_RECEIPT if last is None else receipt_hash(parse_receipt(last.receipt or {}).receipt)
