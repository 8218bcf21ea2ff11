"""Whether this version can go on with the runs that another version has begun, asked before it migrates.

A run is bound to its manifest: its programs, by their measurements, stay those of the version that froze it.
What comes with this version is the conductor, which reads that manifest and the receipts of those programs.
Where it cannot read one of them, the run would end with its first step (`manifest.older_format`).
"""

from __future__ import annotations

from django.db import connection

from contracts.receipt_chain import parse_receipt
from contracts.refusal import Refusal
from enclave_jobs.conductor import finishing
from enclave_jobs.jobs.leases import LIVE_RUNS
from enclave_jobs.runs.models import Round, RoundState, Run
from federation.frozen import Frozen


def require_continued() -> None:
    """Raises: `upgrade.runs_would_end`."""
    if Run._meta.db_table not in connection.introspection.table_names():
        return
    if ending := _ending():
        raise Refusal("upgrade.runs_would_end", runs=", ".join(sorted(ending)[:5]), count=len(ending))


def end_runs() -> None:
    """End those runs, now that the tables are this version's. A run that is paused would not end by itself,
    and while one lives, the next `migrate` (of whatever starts the processes) would stop."""
    for run in Run.objects.filter(pk__in=_ending()).select_related("study"):
        finishing.fail(run, Refusal("manifest.older_format"))


def _ending() -> list[str]:
    """Reads no column that the first tagged version did not have: the tables may still be that version's."""
    live = Run.objects.filter(state__in=LIVE_RUNS).values_list("pk", "manifest", "manifest_hash")
    return [run for run, text, hash in live if Frozen(text, hash).fault or not _receipts_are_read(run)]


def _receipts_are_read(run: str) -> bool:
    """The last one stands for all: they are of one program."""
    published = Round.objects.filter(run=run, state=RoundState.PUBLISHED).order_by("-number")
    receipt = published.values_list("receipt", flat=True).first()
    try:
        if receipt is not None:
            parse_receipt(receipt)
    except Refusal:
        return False
    return True
