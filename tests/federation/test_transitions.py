"""States move along allowed pairs only, one racer wins, and every move is one event row."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.db.models import Model
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from enclave_jobs.runs.models import Contribution, ContributionState, Round, RoundState, Run, RunState
from federation.people.models import Role
from federation.sites.models import Site, SiteEvent, SiteState
from federation.sites.transitions import SITE
from federation.sites.transitions import apply as move_site
from federation.studies.events import apply, note
from federation.studies.models import Event, Study, StudyState
from federation.transitions import Pairs
from tests.federation.cast import make_person

STATES: dict[type, Any] = {
    Study: StudyState,
    Run: RunState,
    Round: RoundState,
    Contribution: ContributionState,
}
PAIRS: dict[type, Pairs] = {kind: kind.pairs for kind in (Study, Run, Round, Contribution)}
FINAL = {"finished", "cancelled", "failed", "published", "accepted", "dropped", "refused", "revoked"}


def world() -> dict[type, Any]:
    """One row of each kind, each in its first state."""
    lead = make_person("lena@university.example", Role.LEAD)
    site = Site.objects.create(name="St. Anna")
    study = Study.objects.create(name="Triage", lead=lead)
    run = Run.objects.create(study=study, manifest="{}", manifest_hash="0" * 64)
    round_ = Round.objects.create(run=run, number=1)
    return {Study: study, Run: run, Round: round_, Contribution: round_.contributions.create(site=site)}


class Life(RuleBasedStateMachine):
    """Any caller tries any move, believing any state; a model in memory says what must happen."""

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.rows = world()
        self.state = {kind: row.state for kind, row in self.rows.items()}
        self.moves = 0

    def teardown(self) -> None:
        """Every example begins with the same empty database."""
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    @rule(kind=st.sampled_from(list(PAIRS)), data=st.data())
    def an_allowed_move(self, kind: type, data: st.DataObject) -> None:
        """It happens if the row still is where the caller believes it, and changes nothing if not."""
        source, target = data.draw(st.sampled_from(sorted(PAIRS[kind])))
        stale = kind._default_manager.get(pk=self.rows[kind].pk)  # type: ignore[attr-defined]
        stale.state = source
        moved = apply(stale, source, target, facts={"why": "test"})
        assert moved == (self.state[kind] == source)
        if moved:
            self.state[kind] = target
            self.moves += 1
            last = Event.objects.latest("pk")
            assert (last.kind, last.from_state, last.to_state) == (
                f"{kind.__name__.lower()}.{target}",
                source,
                target,
            )

    @rule(kind=st.sampled_from(list(PAIRS)), data=st.data())
    def a_move_that_no_one_allowed(self, kind: type, data: st.DataObject) -> None:
        pair = data.draw(st.tuples(*[st.sampled_from(STATES[kind].values)] * 2))
        if pair in PAIRS[kind]:
            return
        with pytest.raises(ValueError, match="never goes"):
            apply(self.rows[kind], *pair)

    @precondition(lambda self: self.moves > 0)
    @rule()
    def somebody_looks(self) -> None:
        assert Event.objects.exclude(study=self.rows[Study]).count() == 0

    @invariant()
    def the_database_is_what_the_model_says(self) -> None:
        for kind, row in self.rows.items():
            assert kind._default_manager.get(pk=row.pk).state == self.state[kind]  # type: ignore[attr-defined]
        assert Event.objects.count() == self.moves


def test_any_sequence_of_moves_keeps_states_and_events_true(db: None) -> None:
    run_state_machine_as_test(Life, settings=settings(max_examples=30, stateful_step_count=30, deadline=None))


@pytest.mark.parametrize(("kind", "states"), [*STATES.items(), (Site, SiteState)])
def test_every_state_is_reached_and_only_final_ones_are_left_by_nothing(
    kind: type[Model], states: Any
) -> None:
    pairs = SITE if kind is Site else PAIRS[kind]
    assert {state for pair in pairs for state in pair} == set(states.values)
    first = states.values[0]
    reached, grows = {first}, True
    while grows:
        more = reached | {target for source, target in pairs if source in reached}
        grows, reached = more != reached, more
    assert reached == set(states.values)
    stuck = set(states.values) - {source for source, _ in pairs}
    assert stuck == FINAL & set(states.values)


def test_the_event_names_what_it_belongs_to(db: None) -> None:
    rows = world()
    assert apply(rows[Contribution], "offered", "dropped", facts={"why": "power"}, error_code="lease.late")
    event = Event.objects.get()
    assert (event.study, event.run, event.round) == (rows[Study], rows[Run], rows[Round])
    assert (event.site_id, event.facts) == (rows[Contribution].site_id, {"why": "power"})
    assert Contribution.objects.get().error_code == "lease.late"
    assert note(rows[Run], "site.joined", site=rows[Contribution].site).site is not None


def test_a_lost_race_writes_no_event(db: None) -> None:
    run = world()[Run]
    late = Run.objects.get(pk=run.pk)
    assert apply(run, "starting", "cancelled")
    assert not apply(late, "starting", "joining", enclave_id="e1")
    assert Event.objects.count() == 1
    assert Run.objects.get().enclave_id == ""


def test_a_sites_move_says_who_and_why(db: None) -> None:
    site = Site.objects.create(name="St. Anna", state=SiteState.ACTIVE)
    assert move_site(site, "active", "suspended", by=None, note="maintenance")
    assert not move_site(site, "active", "suspended", by=None)
    event = SiteEvent.objects.get()
    assert (event.actor, event.note, event.to_state) == ("system", "maintenance", "suspended")
