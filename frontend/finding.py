"""Find a thing by a part of its name or the beginning of its id or hash, among what the reader may see."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext as _

from enclave_jobs.runs.permissions import runs_visible_to
from enclave_jobs.runs.queries import runs_named
from federation.attestation.models import LogEntry
from federation.attestation.permissions import WHOLE_LOG, log_visible_to
from federation.attestation.queries import LogFilter, log_page
from federation.datasets import permissions as datasets
from federation.people import permissions as people
from federation.people.models import Role, User
from federation.sites import permissions as sites
from federation.studies import permissions as studies
from federation.studies import queries
from federation.studies.models import BaseModel
from frontend.forms.log import KINDS
from frontend.sweeps import TO_SWEEP, one_a_sweep, with_sweeps

SHOWN = 8
"""Of each kind; a list with a filter has the others."""
MOST_OF_A_HASH = 50
"""Entries whose hash begins in the same eight digits: more than one is rare."""
MOST_DIGITS = 18
"""Of an entry's number."""
HASH = re.compile(r"[0-9a-f]{8,64}")
CODE = re.compile(r"[a-z_]+\.[a-z_0-9.]*")


@dataclass(frozen=True)
class Hit:
    """`thing` has a state for a badge, if it has one; `detail` tells it from others of its name."""

    name: str
    url: str
    detail: str = ""
    thing: Any = None


@dataclass(frozen=True)
class FoundGroup:
    """What was found of one kind; `cut`: not all of it; `more` is the address of all, where there is one."""

    name: str
    title: str
    hits: list[Hit]
    cut: bool = False
    more: str = ""


def find(user: User, text: str) -> list[FoundGroup]:
    """What this person may see of this text, kind by kind; kinds without a hit are left out."""
    groups = [
        _studies(user, text),
        _runs(user, text),
        _sites(user, text),
        _datasets(user, text),
        _models(user, text),
        _people(user, text),
        _entries(user, text),
    ]
    return [group for group in groups if group.hits]


def _group(name: str, title: str, hits: list[Hit], page: str = "", **asked: str) -> FoundGroup:
    cut = len(hits) > SHOWN
    more = f"{reverse(page)}?{urlencode(asked)}" if page and cut else ""
    return FoundGroup(name, title, hits[:SHOWN], cut, more)


def _studies(user: User, text: str) -> FoundGroup:
    found = queries.named(studies.visible_to(user), text).select_related("sweep_point__sweep", "lead")
    rows = one_a_sweep(found, "sweep_point__sweep", SHOWN + 1)
    hits = []
    for row in rows:
        point = getattr(row, "sweep_point", None)
        if point is not None and text.casefold() in point.sweep.name.casefold():
            hits.append(Hit(point.sweep.name, reverse("sweep", args=[point.sweep_id]), _("a sweep")))
        else:
            hits.append(Hit(row.name, reverse("study", args=[row.pk]), row.lead.email, row))
    return _group("studies", _("Studies"), hits, "studies", q=text)


def _runs(user: User, text: str) -> FoundGroup:
    visible = runs_visible_to(user)
    found = runs_named(visible, text).select_related(TO_SWEEP)
    rows = one_a_sweep(found, TO_SWEEP, SHOWN + 1)
    hits = []
    for run in with_sweeps(visible, rows):
        sweep = getattr(run, "sweep", None)
        if sweep is not None:
            note = _("a sweep of %(n)s runs") % {"n": run.members}  # type: ignore[attr-defined]
            hits.append(Hit(sweep.name, reverse("sweep", args=[sweep.pk]), note))
        else:
            hits.append(Hit(run.study.name, reverse("run", args=[run.pk]), run.pk, run))
    return _group("runs", _("Runs"), hits, "runs", q=text)


def _sites(user: User, text: str) -> FoundGroup:
    named = Q(name__icontains=text) | Q(pk__startswith=text)
    rows = sites.visible_to(user).filter(named).exclude(name="").order_by("name", "pk")[: SHOWN + 1]
    hits = [Hit(str(site), reverse("site", args=[site.pk]), "", site) for site in rows]
    return _group("sites", _("Hospitals"), hits, "sites", q=text)


def _datasets(user: User, text: str) -> FoundGroup:
    rows = (
        datasets.visible_to(user).filter(name__icontains=text).select_related("site").order_by("name", "pk")
    )
    hits = [Hit(row.name, reverse("dataset", args=[row.pk]), str(row.site)) for row in rows[: SHOWN + 1]]
    return _group("datasets", _("Datasets"), hits)


def _models(user: User, text: str) -> FoundGroup:
    if not studies.can_see_models(user):
        return _group("models", "", [])
    rows = BaseModel.objects.filter(Q(name__icontains=text) | Q(source__icontains=text))[: SHOWN + 1]
    hits = [Hit(row.name, reverse("model", args=[row.pk]), row.source) for row in rows]
    return _group("models", _("Base models"), hits)


def _people(user: User, text: str) -> FoundGroup:
    if not people.can_list(user):
        return _group("people", "", [])
    named = Q(email__icontains=text) | Q(first_name__icontains=text) | Q(last_name__icontains=text)
    rows = people.visible_to(user).filter(named).order_by("email")[: SHOWN + 1]
    hits = [Hit(str(row), reverse("person", args=[row.pk]), row.get_role_display()) for row in rows]
    return _group("people", _("People"), hits)


def _entries(user: User, text: str) -> FoundGroup:
    """Of the log by number, kind, code or hash: each is read from an index, whatever the log's length."""
    if user.role == Role.SITE_ADMIN:
        return _group("log", "", [])
    asked = {"kind": text} if text in KINDS else {"code": text} if CODE.fullmatch(text) else {}
    if asked and user.role not in WHOLE_LOG:
        # To say which of them they may see is the list's work, page by page.
        return FoundGroup("log", _("Log"), [Hit(text, f"{reverse('log')}?{urlencode(asked)}")])
    if asked:
        wanted = LogFilter(kind=asked.get("kind", ""), code=asked.get("code", ""))
        rows = log_page(LogEntry.objects.all(), wanted, size=SHOWN + 1)
        return _group("log", _("Log"), [_entry(row) for row in rows], "log", **asked)
    keys = [int(text)] if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else []
    if HASH.fullmatch(text.lower()):  # one hash in 300 begins with twelve digits
        leaf = text.lower()
        same = LogEntry.objects.filter(leaf_hash__gte=leaf, leaf_hash__lt=leaf + "g")
        keys += same.values_list("index", flat=True)[:MOST_OF_A_HASH]
    # The keys first, by an index: whether this person may see them is asked of these few alone.
    rows = list(log_visible_to(user).filter(index__in=keys).select_related("study")) if keys else []
    return _group("log", _("Log"), [_entry(row) for row in rows])


def _entry(row: LogEntry) -> Hit:
    note = " · ".join(part for part in (row.code, row.study.name if row.study else "") if part)
    return Hit(f"{row.index} {row.kind}", reverse("log-entry", args=[row.index]), note)
