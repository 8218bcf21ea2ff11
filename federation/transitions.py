"""The one way in which a row changes its state: a conditional update, so that of two racers one wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.db.models import CharField, Model

Pairs = frozenset[tuple[str, str]]


class Timelined(Model):
    """A row whose changes of state stand on a study's timeline (federation/studies/events.py).

    `pairs` are the changes of state that there are; `belongs` the columns of its events that name it.
    """

    pairs: ClassVar[Pairs]
    state: CharField[Any, Any]

    class Meta:
        abstract = True

    if TYPE_CHECKING:  # each of them says it itself

        @property
        def belongs(self) -> dict[str, Any]: ...


def move(row: Model, pairs: Pairs, from_state: str, to_state: str, **changes: Any) -> bool:
    """Move `row` from one state to the other if it still is in the first; set `changes` with it.

    Returns False, with nothing changed, if somebody was faster. A pair that is not allowed is a programming
    error. The caller writes the event row in the same transaction.
    """
    if (from_state, to_state) not in pairs:
        raise ValueError(f"{type(row).__name__} never goes from {from_state} to {to_state}")
    changed = type(row)._default_manager.filter(pk=row.pk, state=from_state).update(state=to_state, **changes)
    if changed:
        for name, value in {"state": to_state, **changes}.items():
            setattr(row, name, value)
    return bool(changed)
