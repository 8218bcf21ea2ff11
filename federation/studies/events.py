"""The one way in which a study, and what runs of it, moves on: with an event on the study's timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from contracts.refusal import Fact
from federation.studies.models import Event
from federation.transitions import Timelined, move


def apply(
    row: Timelined,
    from_state: str,
    to_state: str,
    *,
    facts: dict[str, Fact] | None = None,
    **changes: Any,
) -> bool:
    """Move the row on, set `changes` with it, and write the event, all or nothing.

    False, with nothing changed, if the row was not in `from_state` any more. The event is called
    `<model>.<to_state>` (`run.joining`); `facts` are what its line on the timeline says.
    """
    with transaction.atomic():
        if not move(row, row.pairs, from_state, to_state, **changes):
            return False
        Event.objects.create(
            **row.belongs,
            kind=_kind(row, to_state),
            from_state=from_state,
            to_state=to_state,
            facts=facts or {},
        )
        return True


def note(row: Timelined, kind: str, *, site: Any = None, **facts: Fact) -> Event:
    """Write an event that is no transition (`site.joined`, `run.launched`)."""
    belongs = dict(row.belongs)
    if site is not None:
        belongs["site"] = site
    return Event.objects.create(**belongs, kind=kind, facts=facts)


def note_sites(round: Timelined, kind: str, sites: Mapping[str, dict[str, Fact]]) -> None:
    """Write an event of this kind for each of these sites (ids, with facts), in one query."""
    belongs = round.belongs
    Event.objects.bulk_create(
        Event(**belongs, site_id=site, kind=kind, facts=facts) for site, facts in sites.items()
    )


def entered(rows: Sequence[Timelined], before: str) -> None:
    """Write the events of rows that came into a later state than `before` together, in one query."""
    for row in rows:
        if (before, row.state) not in row.pairs:
            raise ValueError(f"{type(row).__name__} never goes from {before} to {row.state}")
    Event.objects.bulk_create(
        Event(**row.belongs, kind=_kind(row, row.state), from_state=before, to_state=row.state)
        for row in rows
    )


def _kind(row: Timelined, state: str) -> str:
    return f"{type(row).__name__.lower()}.{state}"
