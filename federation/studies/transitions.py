"""Which state may follow which, for studies, runs, rounds and contributions; and the one way to move on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from contracts.refusal import Fact
from federation.studies.models import Contribution, Event, Round, Run, Study
from federation.transitions import Pairs, move

STUDY: Pairs = frozenset(
    {
        ("draft", "approving"),
        ("draft", "cancelled"),
        ("approving", "draft"),  # reopened, or a site's key changed
        ("approving", "ready"),
        ("approving", "cancelled"),
        ("ready", "draft"),
        ("ready", "running"),
        ("ready", "cancelled"),
        ("running", "finished"),
        ("running", "draft"),  # its run failed: mend, freeze and ask again
        ("running", "cancelled"),
    }
)

_RUN_LIVE = ("starting", "joining", "running", "paused", "finishing")
RUN: Pairs = frozenset(
    {
        ("starting", "joining"),
        ("joining", "running"),
        ("running", "finishing"),
        ("finishing", "finished"),
        ("joining", "paused"),
        ("running", "paused"),
        ("paused", "joining"),
        ("paused", "running"),
        # The enclave was lost and starts again from its sealed state.
        ("joining", "starting"),
        ("running", "starting"),
        *((state, "failed") for state in _RUN_LIVE),
        *((state, "cancelled") for state in _RUN_LIVE),
    }
)

_ROUND_LIVE = ("open", "collecting", "countersigning", "aggregating")
ROUND: Pairs = frozenset(
    {
        ("open", "collecting"),
        ("collecting", "countersigning"),
        ("countersigning", "aggregating"),
        ("aggregating", "published"),
        *((state, "failed") for state in _ROUND_LIVE),
    }
)

CONTRIBUTION: Pairs = frozenset(
    {
        ("offered", "leased"),
        ("offered", "submitted"),  # Method 2: what the site contributes is here already
        ("leased", "working"),
        ("leased", "submitted"),
        ("working", "submitted"),
        ("submitted", "accepted"),
        # A lease ran out: offered again.
        ("leased", "offered"),
        ("working", "offered"),
        *((state, "dropped") for state in ("offered", "leased", "working", "submitted")),
        *((state, "refused") for state in ("offered", "leased", "working", "submitted")),
    }
)

PAIRS: dict[type, Pairs] = {Study: STUDY, Run: RUN, Round: ROUND, Contribution: CONTRIBUTION}


def apply(
    row: Study | Run | Round | Contribution,
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
        if not move(row, PAIRS[type(row)], from_state, to_state, **changes):
            return False
        name = type(row).__name__.lower()
        Event.objects.create(
            **_belongs(row),
            kind=f"{name}.{to_state}",
            from_state=from_state,
            to_state=to_state,
            facts=facts or {},
        )
        return True


def note(row: Study | Run | Round | Contribution, kind: str, *, site: Any = None, **facts: Fact) -> Event:
    """Write an event that is no transition (`site.joined`, `run.launched`)."""
    belongs = _belongs(row)
    if site is not None:
        belongs["site"] = site
    return Event.objects.create(**belongs, kind=kind, facts=facts)


def note_sites(round: Round, kind: str, sites: Mapping[str, dict[str, Fact]]) -> None:
    """Write an event of this kind for each of these sites (ids, with facts), in one query."""
    belongs = _belongs(round)
    Event.objects.bulk_create(
        Event(**belongs, site_id=site, kind=kind, facts=facts) for site, facts in sites.items()
    )


def entered(rows: Sequence[Contribution], before: str) -> None:
    """Write the events of rows that were created in a later state than `before`, the first, in one query."""
    for row in rows:
        if (before, row.state) not in CONTRIBUTION:
            raise ValueError(f"Contribution never goes from {before} to {row.state}")
    Event.objects.bulk_create(
        Event(**_belongs(row), kind=f"contribution.{row.state}", from_state=before, to_state=row.state)
        for row in rows
    )


def _belongs(row: Study | Run | Round | Contribution) -> dict[str, Any]:
    match row:
        case Study():
            return {"study": row}
        case Run():
            return {"study_id": row.study_id, "run": row}
        case Round():
            return {"study_id": row.run.study_id, "run_id": row.run_id, "round": row}
        case Contribution():
            return {**_belongs(row.round), "site_id": row.site_id}
