"""Where a written answer ends, as it is shown, and how many tokens are asked for."""

from __future__ import annotations

import pytest

from site_agent.answering import GrowingAnswer, bucket


@pytest.mark.parametrize(("asked", "steps"), [(1, 16), (16, 16), (17, 32), (32, 32), (33, 64), (200, 256)])
def test_few_numbers_of_tokens_are_ever_asked_for(asked: int, steps: int) -> None:
    assert bucket(asked) == steps


def shown(stops: tuple[str, ...], *texts: str) -> list[str]:
    answer = GrowingAnswer(stops)
    return [answer.grow(text) for text in texts] + [answer.rest()]


def test_pieces_come_as_they_grow_and_make_the_whole() -> None:
    assert shown((), "take", "take two", "take two.") == ["take", " two", ".", ""]


def test_half_of_a_character_waits_for_its_rest_and_a_lone_one_is_shown_in_the_end() -> None:
    assert shown((), "caf\ufffd", "caf\u00e9") == ["caf", "\u00e9", ""]
    assert shown((), "caf\ufffd") == ["caf", "\ufffd"]


def test_an_answer_ends_before_the_first_of_its_stops_of_which_nothing_is_ever_shown() -> None:
    texts = ("yes", "yes\n", "yes\nQ", "yes\nQ: next")
    assert shown(("\nQ:", "next"), *texts) == ["yes", "", "", "", ""]
    assert shown(("\nQ:",), *texts[:3]) == ["yes", "", "", "\nQ"], "what was no stop is shown"


def test_what_comes_after_the_end_changes_nothing() -> None:
    answer = GrowingAnswer(("##",))
    assert answer.grow("a## b") == "a" and answer.ended
    assert answer.grow("a## b c") == "" and answer.rest() == ""


def test_an_empty_stop_stops_nothing() -> None:
    assert shown(("",), "a") == ["a", ""]
