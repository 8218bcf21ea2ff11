"""The last published round: what the next one continues."""

from __future__ import annotations

from contracts.receipt_chain import parse_receipt
from contracts.receipts import NO_RECEIPT, Receipt, receipt_hash
from enclave_jobs.runs.models import Round, RoundState, Run


def last_published(run: Run, *, before: int | None = None) -> Round | None:
    """The run's last published round, or the last one before a round."""
    rounds = Round.objects.filter(run=run, state=RoundState.PUBLISHED).order_by("-number")
    return rounds.first() if before is None else rounds.filter(number__lt=before).first()


def last_receipt(run: Run, *, before: int | None = None) -> Receipt | None:
    """Its receipt."""
    last = last_published(run, before=before)
    return None if last is None else parse_receipt(last.receipt or {}).receipt


def previous_hash(round: Round) -> str:
    """The hash of the receipt before this round: what its roster and its own receipt must name."""
    last = last_receipt(round.run, before=round.number)
    return NO_RECEIPT if last is None else receipt_hash(last)
