"""The receipts of a study, as its room lists them: one line for each, of every run, by what enclaves signed.

A reader of a hospital sees what is their own hospital's, and of the others only how many there were.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contracts.canonical import digest
from enclave_jobs.runs.models import Round, Run
from federation.frozen import frozen
from federation.people.models import Role, User
from frontend.rounds import title_of

SHOWN = 50
"""Receipts of a run on the page, the newest; the run's CSV has all of its rounds."""


@dataclass(frozen=True)
class ReceiptLine:
    """One receipt: its SHA-256, what it says of the round, and what of that the reader may see. `once` says
    that its bytes are those of features, which every round names again."""

    title: str
    closed: datetime | None
    hospitals: int
    samples: int
    bytes: int
    once: bool
    measurement: str
    development: bool
    hash: str


@dataclass(frozen=True)
class RunReceipts:
    """The receipts of one run, newest first; `older` are not listed."""

    run: Run
    lines: list[ReceiptLine]
    older: int

    @property
    def count(self) -> int:
        return len(self.lines) + self.older


def receipts_of(runs: list[Run], user: User) -> list[RunReceipts]:
    """By run, in their order, of those that have any; one query for all of them."""
    signed: dict[str, list[Round]] = {run.pk: [] for run in runs}
    rows = Round.objects.filter(run__in=runs, receipt__isnull=False).order_by("-number")
    for row in rows.only("run_id", "number", "kind", "closed_at", "receipt"):
        signed[row.run_id].append(row)
    own = user.site_id if user.role == Role.SITE_ADMIN else None
    found = []
    for run in runs:
        total = frozen(run).at("training", "rounds") if signed[run.pk] else None
        lines = [_line(row, total, own) for row in signed[run.pk][:SHOWN]]
        if lines:
            found.append(RunReceipts(run, lines, len(signed[run.pk]) - len(lines)))
    return found


def _line(row: Round, total: int | None, own: str | None) -> ReceiptLine:
    receipt: dict[str, Any] = (row.receipt or {}).get("receipt", {})
    inputs = receipt.get("inputs", [])
    shown = [one for one in inputs if own in (None, one.get("site"))]
    return ReceiptLine(
        title=title_of(row, total),
        closed=row.closed_at,
        hospitals=len(inputs),
        samples=sum(one.get("samples", 0) for one in shown),
        bytes=sum(one.get("bytes", 0) for one in shown),
        once=receipt.get("program") == "split_server",
        measurement=receipt.get("measurement") or "",
        development=bool(receipt.get("development")),
        hash=digest(receipt),
    )
