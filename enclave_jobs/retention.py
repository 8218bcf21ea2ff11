"""What is kept, and for how long: one set of rules, by which the clock forgets and an operator's page counts.

Every rule names files or rows that nothing can need any more; what is in doubt stays. What people and
auditors go by is never forgotten: rounds, receipts, contributions, releases, events, the audit trail and
the log stay, and a blob's row stays with its hash and size when its file goes.

    updates      a site's sealed update, once its round is published or given up: the enclave has opened it,
                 or never will
    parameters   global parameters sealed to client slices, but for the last KEPT_ROUNDS rounds of a run that
                 goes on
    states       sealed states, but for those of the last KEPT_ROUNDS rounds, which have the best round's
                 parameters in them, and of the one that a release names
    jobs         jobs, with what they were told, JOB_DAYS after their run's end
    sessions     sessions of people that have expired
    notices      news for people (federation/notices), inbox.KEPT_DAYS after what they tell of

Nonces, token ids, collateral, abandoned uploads and released files have short times of their own, and go in
`sweeping.upkeep`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.contrib.sessions.models import Session
from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from contracts.receipt_chain import parse_receipt
from contracts.receipts import receipt_hash
from enclave_jobs.blobs.models import Blob, BlobKind, Issue
from enclave_jobs.blobs.store import remove
from enclave_jobs.enclaves.models import Enclave, EnclaveState
from enclave_jobs.jobs.models import Inputs, Job
from enclave_jobs.releases.models import Release
from enclave_jobs.runs.models import Contribution, Round, RoundState, RunState
from federation.notices import inbox

KEPT_ROUNDS: Final = 3
JOB_DAYS: Final = 90
GRACE: Final = timedelta(minutes=10)
"""After a round's or a run's end: whoever reads a file has read it by then."""
OVER: Final = (RunState.FINISHED, RunState.FAILED, RunState.CANCELLED)


@dataclass(frozen=True)
class Due:
    """What a rule forgets now: how many things, and their bytes on disk (0 for rows)."""

    rule: str
    count: int
    bytes: int


@dataclass(frozen=True)
class Rule:
    """`due` counts what `forget` would forget: both ask the same question."""

    due: Callable[[], Due]
    forget: Callable[[], None]


def due() -> list[Due]:
    """What would be forgotten now, by rule: the dry run."""
    return [rule.due() for rule in RULES]


def forget() -> list[Due]:
    """Forget what is due, and say what it was. It may run twice at once, or be killed at any point."""
    usage = []
    for rule in RULES:
        usage.append(rule.due())
        rule.forget()
    return usage


def _updates() -> QuerySet[Blob]:
    over = Contribution.objects.filter(
        round__state__in=(RoundState.PUBLISHED, RoundState.FAILED), round__closed_at__lt=_grace()
    )
    return _here(BlobKind.UPDATE).filter(sha256__in=over.exclude(blob="").values("blob"))


def _parameters() -> QuerySet[Blob]:
    """A run that is over has no client slice that could open them; one that goes on, from the last rounds."""
    gone = Q(round__run__state__in=OVER, round__run__finished_at__lt=_grace())
    kept = Q(round__in=_last_rounds())
    old = Issue.objects.filter(gone | ~kept).filter(at__lt=_grace())
    needed = Issue.objects.filter(kept, ~gone)
    blobs = _here(BlobKind.NEXT).filter(sha256__in=old.values("sha256"))
    return blobs.exclude(sha256__in=needed.values("sha256"))


def _states() -> QuerySet[Blob]:
    published = Round.objects.filter(state=RoundState.PUBLISHED).exclude(state_blob="")
    kept = {*_last_rounds(), *_named_rounds()}
    old = published.filter(closed_at__lt=_grace()).exclude(pk__in=kept)
    needed = published.filter(pk__in=kept)
    blobs = _here(BlobKind.STATE).filter(sha256__in=old.values("state_blob"))
    return blobs.exclude(sha256__in=needed.values("state_blob"))


def _last_rounds() -> set[int]:
    """The last published rounds of each run."""
    last: set[int] = set()
    rows = Round.objects.filter(state=RoundState.PUBLISHED).order_by("run_id", "-number")
    run, seen = "", 0
    for pk, run_id in rows.values_list("pk", "run_id"):
        run, seen = run_id, (seen + 1 if run_id == run else 1)
        if seen <= KEPT_ROUNDS:
            last.add(pk)
    return last


def _named_rounds() -> set[int]:
    """The rounds whose receipt a release names, whatever came of it: sites have signed for it, or may."""
    named = set(Release.objects.values_list("receipt", flat=True))
    rounds = Round.objects.filter(state=RoundState.PUBLISHED, run__release__isnull=False)
    receipts = rounds.values_list("pk", "receipt")
    return {pk for pk, one in receipts if one and receipt_hash(parse_receipt(one).receipt) in named}


def _jobs() -> QuerySet[Job]:
    """Not of a run that is served or released still: its enclave asks its sites by jobs."""
    ended = timezone.now() - timedelta(days=JOB_DAYS)
    living = Enclave.objects.filter(state__in=(EnclaveState.STARTING, EnclaveState.READY))
    old = Job.objects.filter(run__state__in=OVER, run__finished_at__lt=ended)
    return old.exclude(run__in=living.values("run"))


def _forget_jobs() -> None:
    runs = set(_jobs().values_list("run", flat=True))
    _jobs().delete()
    Inputs.objects.filter(run__in=runs).delete()


def _sessions() -> QuerySet[Session]:
    return Session.objects.filter(expire_date__lt=timezone.now())


def _forget_sessions() -> None:
    _sessions().delete()


def _forget_notices() -> None:
    inbox.past().delete()


def _grace() -> datetime:
    return timezone.now() - GRACE


def _here(kind: BlobKind) -> QuerySet[Blob]:
    return Blob.objects.filter(kind=kind, complete=True)


def _files(name: str, which: Callable[[], QuerySet[Blob]]) -> Rule:
    def counted() -> Due:
        found = which()
        return Due(name, found.count(), found.aggregate(bytes=Sum("bytes"))["bytes"] or 0)

    def forget() -> None:
        for sha256 in list(which().values_list("sha256", flat=True)):
            # The row first: a file without a row that calls it whole is nobody's, and goes with the next try.
            Blob.objects.filter(pk=sha256).update(complete=False)
            remove(sha256)

    return Rule(counted, forget)


RULES: Final = (
    _files("updates", _updates),
    _files("parameters", _parameters),
    _files("states", _states),
    Rule(lambda: Due("jobs", _jobs().count(), 0), _forget_jobs),
    Rule(lambda: Due("sessions", _sessions().count(), 0), _forget_sessions),
    Rule(lambda: Due("notices", inbox.past().count(), 0), _forget_notices),
)
