"""Pages by key: page 2,000 costs what page 1 does. The key is the primary key, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from django.db.models import Model, QuerySet
from django.http import HttpRequest

M = TypeVar("M", bound=Model)
SIZE = 50
MAX_KEY = 2**63 - 1


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
