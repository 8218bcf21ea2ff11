"""What auditors ask of the log, page by page by key, so that page 2,000 costs what page 1 does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max, Min, QuerySet

from federation.attestation import log
from federation.attestation.models import AppraisalRecord, LogEntry, LogMention

PAGE = 50


@dataclass(frozen=True)
class LogFilter:
    """What a reader asks for; what is empty or None restricts nothing. Times are [since, until)."""

    site: str = ""
    study: str = ""
    program: str = ""
    verdict: str = ""
    code: str = ""
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def columns(self) -> dict[str, str]:
        """The filters that are columns of an entry."""
        named = {
            "study_id": self.study,
            "program": self.program,
            "verdict": self.verdict,
            "code": self.code,
            "kind": self.kind,
        }
        return {name: value for name, value in named.items() if value}


def log_page(
    entries: QuerySet[LogEntry],
    wanted: LogFilter | None = None,
    *,
    before: int | None = None,
    size: int = PAGE,
) -> list[LogEntry]:
    """Up to `size` entries, newest first, below the index `before` if one is given.

    1. Times become bounds of the index, by the index on time.
    2. The page's keys are read from the index of one filter; entries' texts are not touched.
    3. The entries are read by key.
    """
    wanted = wanted or LogFilter()
    bounds = _bounds(wanted)
    if bounds is None:
        return []
    lowest, highest = bounds
    highest = highest if before is None else min(highest, before - 1)
    if wanted.site:
        mentions = LogMention.objects.filter(site_id=wanted.site, entry_id__gte=lowest, entry_id__lte=highest)
        narrowed = mentions.filter(**{f"entry__{name}": value for name, value in _exact(wanted).items()})
        if entries.query.where:
            narrowed = narrowed.filter(entry__in=entries)
        keys = list(narrowed.order_by("-entry_id").values_list("entry_id", flat=True)[:size])
    else:
        chosen = entries.filter(index__gte=lowest, index__lte=highest, **_exact(wanted))
        keys = list(chosen.order_by("-index").values_list("index", flat=True)[:size])
    rows = LogEntry.objects.filter(index__in=keys).order_by("-index").defer("data")
    return list(rows.select_related("study").prefetch_related("mentions__site"))


def earlier_of_same_enclave(record: AppraisalRecord) -> AppraisalRecord | None:
    """The appraisal before this one of the same site and program, to mark what changed."""
    same = AppraisalRecord.objects.filter(site=record.site, program=record.program, pk__lt=record.pk)
    return same.select_related("log_entry").order_by("-pk").first()


def _exact(wanted: LogFilter) -> dict[str, str | datetime]:
    exact: dict[str, str | datetime] = dict(wanted.columns())
    # The bounds below may hold more, where the clock once went back.
    if wanted.since:
        exact["at__gte"] = wanted.since
    if wanted.until:
        exact["at__lt"] = wanted.until
    return exact


def _bounds(wanted: LogFilter) -> tuple[int, int] | None:
    """The lowest and highest index in the wanted time; None where there is no entry."""
    if wanted.since is None and wanted.until is None:
        whole = log.size()
        return (0, whole - 1) if whole else None
    timed = LogEntry.objects.all()
    if wanted.since:
        timed = timed.filter(at__gte=wanted.since)
    if wanted.until:
        timed = timed.filter(at__lt=wanted.until)
    found = timed.aggregate(lowest=Min("index"), highest=Max("index"))
    if found["lowest"] is None:
        return None
    return found["lowest"], found["highest"]
