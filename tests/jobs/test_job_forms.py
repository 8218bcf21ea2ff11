"""Coordinator and agent write and read jobs by the same structs; other forms are refused by a code."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.jobs import INPUTS, RESULTS, Contributing, Countersigning, Joining, Kind, inputs_of
from contracts.refusal import Refusal
from contracts.roster import Roster, RosterEntry
from enclave_jobs.jobs.models import JobKind

ROSTER = Roster("a" * 64, 2, (RosterEntry("anna", "b" * 64),), "c" * 64, True)
ASKED = {
    "join": Joining("enclave-1", 1),
    "train": Contributing("enclave-1", 1, 2),
    "countersign": Countersigning("enclave-1", 1, ROSTER),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def code(kind: str, said: Any, wanted: type[Joining]) -> str:
    with pytest.raises(Refusal) as caught:
        inputs_of(kind, msgspec.json.encode(said), wanted)
    return caught.value.code


def test_every_kind_of_job_has_its_form_on_both_sides() -> None:
    assert set(JobKind.values) == set(INPUTS) == set(RESULTS) == set(get_args(Kind))


@pytest.mark.parametrize("kind", ASKED)
def test_what_the_coordinator_writes_is_what_the_agent_reads(kind: str) -> None:
    said = msgspec.json.encode(ASKED[kind])
    assert inputs_of(kind, said, type(ASKED[kind])) == ASKED[kind]


@pytest.mark.parametrize("kind", ASKED)
@given(name=st.sampled_from(["enclave", "epoch", "round", "roster", "previous", "more"]), value=JSON)
def test_a_field_of_another_form_is_refused(kind: str, name: str, value: Any) -> None:
    said = msgspec.to_builtins(ASKED[kind])
    if value == said.get(name) or (name == "previous" and value is None and kind == "train"):
        return
    try:
        read = inputs_of(kind, msgspec.json.encode(said | {name: value}), type(ASKED[kind]))
    except Refusal as refusal:
        assert refusal.code == "agent.bad_inputs"
    else:  # of the right form; whom it is for is judged by whoever reads it
        assert name in ("enclave", "epoch", "round") and getattr(read, name) == value


def test_a_job_of_one_kind_cannot_be_read_as_another() -> None:
    assert code("join", msgspec.to_builtins(ASKED["join"]), Contributing) == "agent.bad_inputs"
    assert code("train", msgspec.to_builtins(ASKED["countersign"]), Contributing) == "agent.bad_inputs"
    assert code("countersign", {"enclave": "e", "epoch": 1}, Countersigning) == "agent.bad_inputs"
