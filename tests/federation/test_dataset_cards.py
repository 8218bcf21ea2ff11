"""Cards in, rows never; and a second look at what the agent suppressed."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.agents_api.datasets import Card
from contracts.refusal import Refusal
from federation.datasets.cards import check
from federation.datasets.models import Dataset
from federation.studies.models import Study
from federation.studies.services import reopen
from site_agent.datasets.suppression import suppress
from tests.federation.cast import Hospital

CARD: dict[str, Any] = {
    "rows": 60,
    "labels": {"cause": 20, "symptom": 25, "treatment": 15},
    "splits": {"train": 40, "validation": 10, "test": 10},
    "text_length": {"p10": 20, "p50": 80, "p90": 300},
}


def card(**changes: Any) -> Card:
    return msgspec.convert({**CARD, **changes}, Card)


def body(name: str = "notes", digest: str = "d" * 64, **changes: Any) -> dict[str, Any]:
    return {"name": name, "digest": digest, "card": {**CARD, **changes}}


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        ({"a": 56, "b": 4}, "card.small_count"),
        ({"a": 59, "b": 1}, "card.small_count"),
        ({"a": 56, "b": None}, "card.recoverable_count"),  # 60 - 56 = 4
        ({"a": 30, "b": None}, "card.recoverable_count"),  # one hidden cell is always recoverable
        ({"a": 57, "b": None, "c": None}, "card.recoverable_count"),  # 3 = 1 + 2, both surely small
        ({"a": 58, "b": None, "c": None}, "card.recoverable_count"),  # 2 = 1 + 1
        ({"a": 52, "b": None, "c": None}, "card.recoverable_count"),  # 8 = 4 + 4: could all be small
        ({"a": 20, "b": 20}, "card.wrong_sum"),
        ({"a": 40, "b": 40}, "card.wrong_sum"),
        ({"a": 59, "b": None, "c": None}, "card.wrong_sum"),  # one row left for two cells
        ({"a": 70, "b": None, "c": None}, "card.wrong_sum"),
    ],
)
def test_a_card_that_gives_a_small_count_away_is_refused(labels: dict[str, Any], code: str) -> None:
    with pytest.raises(Refusal) as refusal:
        check(card(labels=labels))
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "labels",
    [
        {"a": 60},
        {"a": 55, "b": 5},
        {"a": 60, "b": 0},
        {"a": 51, "b": None, "c": None},
        {"a": None, "b": None, "c": None},
        {},
    ],
)
def test_a_card_that_keeps_small_counts_is_accepted(labels: dict[str, Any]) -> None:
    check(card(labels=labels))


def test_splits_are_looked_at_as_labels_are() -> None:
    with pytest.raises(Refusal, match=r"card\.recoverable_count"):
        check(card(splits={"train": 56, "validation": None, "test": 0}))


def test_hiding_every_count_hides_nothing_where_each_is_nearly_one() -> None:
    with pytest.raises(Refusal, match=r"card\.recoverable_count"):
        check(card(rows=5, labels={"a": None, "b": None, "c": None}, splits={"train": 5}))
    check(card(rows=6, labels={"a": None, "b": None, "c": None}, splits={"train": 6}))


@pytest.mark.parametrize(
    ("kind", "more", "fits"),
    [
        ("pair-label", {}, True),
        ("text-labels", {}, True),
        ("text-labels", {"turns": {"p50": 3}}, False),
        ("messages", {"labels": {}, "answer_length": {"p50": 9}, "turns": {"p50": 3}}, True),
        ("prompt-response", {"labels": {}, "answer_length": {"p50": 9}, "languages": ("de", "en-GB")}, True),
        ("prompt-choices", {"labels": {}, "answer_length": {"p50": 9}}, True),
        ("prompt-response", {}, False),
        ("prompt-response", {"labels": {}, "turns": {"p50": 3}}, False),
        ("text", {"labels": {}, "answer_length": {"p50": 9}}, False),
        ("text-label", {"turns": {"p50": 3}}, False),
    ],
)
def test_a_card_says_no_more_than_its_kind_has(kind: str, more: dict[str, Any], fits: bool) -> None:
    with nullcontext() if fits else pytest.raises(Refusal, match=r"card\.kind"):
        check(card(kind=kind, **more))


def test_a_dataset_of_four_rows_is_too_small() -> None:
    with pytest.raises(Refusal, match=r"card\.too_small"):
        check(card(rows=4, labels={}, splits={"train": 4}))


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 40), min_size=1, max_size=8))
def test_what_the_agent_suppresses_is_accepted(counts: dict[str, int]) -> None:
    rows = sum(counts.values())
    if rows < max(5, 2 * len(counts)):  # the agent does not take such a dataset in
        return
    check(card(rows=rows, labels=suppress(counts), splits={"train": rows}))


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 40), min_size=2, max_size=8),
    st.data(),
)
def test_a_hidden_small_count_that_is_shown_after_all_is_refused(
    counts: dict[str, int], data: st.DataObject
) -> None:
    small = sorted(name for name, count in counts.items() if count < 5)
    rows = sum(counts.values())
    if not small or rows < max(5, 2 * len(counts)):
        return
    shown = data.draw(st.sampled_from(small))
    with pytest.raises(Refusal):
        check(card(rows=rows, labels={**suppress(counts), shown: counts[shown]}, splits={"train": rows}))


def test_an_agent_publishes_and_withdraws(anna: Hospital) -> None:
    published = anna.call("post", "datasets", body()).json()
    row = Dataset.objects.get()
    assert (row.pk, row.site_id, row.rows, row.card["labels"]["cause"]) == (
        published["id"],
        anna.site.pk,
        60,
        20,
    )
    assert anna.call("post", "datasets", body()).json()["id"] == row.pk
    assert anna.call("delete", f"datasets/{row.pk}").status_code == 204
    assert anna.call("delete", f"datasets/{row.pk}").status_code == 204
    assert Dataset.objects.get().withdrawn_at is not None
    again = anna.call("post", "datasets", body(digest="e" * 64)).json()
    assert again["id"] != row.pk


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"digest": "e" * 64}, "card.name_taken"),
        ({"rows": 61, "labels": {}, "splits": {"train": 61}}, "card.name_taken"),
    ],
)
def test_an_active_name_stands_for_one_content(anna: Hospital, changed: dict[str, Any], code: str) -> None:
    anna.call("post", "datasets", body())
    answer = anna.call("post", "datasets", body(**changed))
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert Dataset.objects.count() == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"name": "notes"},
        {**body(), "rows": [{"text": "a patient's words"}]},
        body(examples=["a patient's words"]),
        body(rows=-1),
        body(labels={"x" * 201: 60}),
        body(splits={"holdout": 60}),
        body(threshold=3),
        body(text_length={"max": 9000}),
        {**body(), "digest": "D" * 64},
        {**body(), "name": ""},
        [],
    ],
)
def test_a_card_of_another_form_is_refused(anna: Hospital, broken: Any) -> None:
    answer = anna.call("post", "datasets", broken)
    assert (answer.status_code, answer.json()["code"]) == (400, "request.invalid")
    assert not Dataset.objects.exists()


def test_a_card_that_is_too_large_is_not_read(anna: Hospital) -> None:
    answer = anna.call("post", "datasets", body(labels={f"{n:0200d}": 5 for n in range(2000)}))
    assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")


def test_a_dataset_of_a_frozen_study_stays(frozen: Study, anna: Hospital, lena: Any) -> None:
    dataset = frozen.datasets.get(site=anna.site)
    answer = anna.call("delete", f"datasets/{dataset.pk}")
    assert (answer.status_code, answer.json()["code"]) == (409, "card.in_use")
    reopen(lena, frozen)
    assert anna.call("delete", f"datasets/{dataset.pk}").status_code == 204
