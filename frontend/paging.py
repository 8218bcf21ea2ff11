"""Pages by key: page 2,000 costs what page 1 does. The key is the primary key, or what a list is ordered by
with the primary key behind it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from django.db.models import IntegerField, Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_aware

M = TypeVar("M", bound=Model)
SIZE = 50
MAX_KEY = 2**63 - 1
MAX_TEXT = 300


@dataclass(frozen=True)
class Page(Generic[M]):
    """One page; `newest` and `older` are addresses, empty where they lead nowhere."""

    rows: list[M]
    newest: str
    older: str


def key_of(request: HttpRequest) -> int | None:
    """The key below which the reader wants to see, if it is one."""
    text = request.GET.get("before", "")
    return min(int(text[:20]), MAX_KEY) if text.isascii() and text.isdecimal() else None


def keyset(
    request: HttpRequest, rows: QuerySet[M], asked: dict[str, Any] | None = None, *, size: int = SIZE
) -> Page[M]:
    """A page of `rows`, which are ordered by falling primary key; `asked` are the filters that the links
    keep."""
    before, asked = key_of(request), asked or {}
    chosen = rows if before is None else rows.filter(pk__lt=before)
    found = list(chosen[: size + 1])
    older = "?" + urlencode({**asked, "before": found[size - 1].pk}) if len(found) > size else ""
    return Page(found[:size], "?" + urlencode(asked) if before is not None else "", older)


def newest_first(
    request: HttpRequest,
    take: Callable[[int, Q | None], list[M]],
    asked: dict[str, Any] | None = None,
    *,
    size: int = SIZE,
) -> Page[M]:
    """A page of a list by falling `created_at`, of the same moment by rising primary key. `take` gives so
    many rows of it, behind where the reader has come to."""
    moment, pk = _cursor(request)
    at = parse_datetime(moment) if moment else None
    after = Q(created_at__lt=at) | Q(created_at=at, pk__gt=pk) if at and is_aware(at) else None
    return _page(take(size + 1, after), after, "created_at", asked or {}, size)


def by_name(
    request: HttpRequest,
    rows: QuerySet[M],
    asked: dict[str, Any] | None = None,
    *,
    size: int = SIZE,
    field: str = "name",
) -> Page[M]:
    """A page of `rows` by their name, or another text `field`; of the same name by primary key."""
    name, pk = _cursor(request)
    if isinstance(rows.model._meta.pk, IntegerField) and not re.fullmatch("[0-9]{1,18}", pk):
        pk = ""
    after = Q(**{f"{field}__gt": name}) | Q(**{field: name, "pk__gt": pk}) if pk else None
    ordered = (rows if after is None else rows.filter(after)).order_by(field, "pk")
    return _page(list(ordered[: size + 1]), after, field, asked or {}, size)


def _cursor(request: HttpRequest) -> tuple[str, str]:
    """What the last row of the page before was ordered by, and its primary key; both empty for the first."""
    text = request.GET.get("before", "")[:MAX_TEXT].replace("\0", "")
    value, _sign, pk = text.rpartition("~")
    return value, pk


def _page(found: list[M], after: Q | None, field: str, asked: dict[str, Any], size: int) -> Page[M]:
    first = "?" + urlencode(asked) if after is not None else ""
    if len(found) <= size:
        return Page(found, first, "")
    last = found[size - 1]
    value = getattr(last, field)
    text = value.isoformat() if isinstance(value, datetime) else value
    return Page(found[:size], first, "?" + urlencode({**asked, "before": f"{text}~{last.pk}"}))
