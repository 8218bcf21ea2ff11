"""The course of a run and its best round, by receipts alone: what enclaves decide, and all compute again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts.best import best_after
from contracts.course import is_over, may_follow, next_round
from contracts.manifest import CLOSING_TRIES, Manifest
from contracts.receipt_chain import course_fault
from contracts.receipts import NO_RECEIPT, Averaging, Best, Receipt, Scoring, receipt_hash
from contracts.round_kind import kind_of
from enclave.programs.publication import Published
from enclave.programs.round_ledger import LatestRound
from enclave.programs.steering import steer
from tests.sealing.test_receipts import receipt as plain
from tests.sealing.vectors.make import MANIFEST

ROUNDS = 3
RUN: Manifest = msgspec.structs.replace(
    MANIFEST, training=msgspec.structs.replace(MANIFEST.training, rounds=ROUNDS)
)
LAST = ROUNDS + CLOSING_TRIES + 1
SCORED, WITHHELD = Scoring(("a", "b", "c"), None), Scoring((), "too_few_sites")


def reported(losses: dict[int, float | None]) -> list[Receipt]:
    """Honest receipts of these rounds; None: the round tells no scores."""
    receipts: list[Receipt] = []
    for number, loss in losses.items():
        kind = kind_of(RUN, number)
        before = receipts[-1] if receipts else None
        name = NO_RECEIPT if before is None else receipt_hash(before)
        pooled = {} if loss is None else {"test" if kind == "test" else "pooled": {"loss": loss}}
        made = plain(
            number,
            name,
            metrics=pooled,
            scoring=WITHHELD if loss is None else SCORED,
            averaging=Averaging("fedavg", 3, None, None, 0, None) if kind == "update" else None,
            best=best_after(kind, before, name, loss, withheld=loss is None),
        )
        receipts.append(made)
    return receipts


def fault(receipts: list[Receipt], at: int = -1, **changes: Any) -> str | None:
    """What everybody sees of one of these receipts, with changes."""
    at = at % len(receipts)
    shown = msgspec.structs.replace(receipts[at], **changes)
    return course_fault(RUN, receipts[at - 1] if at else None, shown)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ({1: 0.9, 2: 0.4, 3: 0.5, 4: 0.6, LAST: 0.1}, 1),
        ({1: 0.1, 2: 0.6, 3: 0.5, 4: 0.4, LAST: 0.9}, 3),  # what the run begins with is no round's
        ({1: 0.9, 2: 0.4, 3: 0.4, 4: 0.6, LAST: 0.1}, 2),  # of equal ones the later
        ({1: 0.9, 3: 0.4, 4: 0.6, LAST: 0.1}, 1),  # round 2 was given up
        ({1: 0.9, 2: 0.4, 3: None, 5: 0.6}, 1),
        ({1: 0.9, 2: 0.4, 3: 0.5, 4: None}, None),  # the last parameters were not scored: they stand
        ({1: None, 2: None, 3: None, 4: None}, None),
    ],
)
def test_the_best_round_has_the_lowest_loss_on_validation_rows(
    losses: dict[int, float | None], best: int | None
) -> None:
    receipts = reported(losses)
    assert all(fault(receipts, at) is None for at in range(len(receipts)))
    found = receipts[-1].best
    assert (found.round if found else None) == best
    if found is not None:
        assert found.receipt == receipt_hash(next(one for one in receipts if one.round == best))


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"best": None}, "another best round"),
        ({"best": Best("0" * 64, 2, 0.4)}, "another best round"),
        ({"metrics": {"pooled": {"loss": 0.3}}}, "another best round"),
        ({"metrics": {"pooled": {"loss": 0.6}, "test": {"loss": 0.1}}}, "scores of other rows"),
        ({"scoring": WITHHELD}, "scores that it withholds"),
        ({"scoring": None}, "scores that it withholds"),
        ({"averaging": Averaging("fedavg", 3, None, None, 0, None)}, "other parameters"),
        ({"round": 3}, "no such round"),
        ({"round": LAST}, "no such round"),
        ({"round": LAST + 1}, "no such round"),
    ],
)
def test_a_closing_receipt_that_names_another_round_or_tells_other_scores_is_seen(
    changes: dict[str, Any], seen: str
) -> None:
    receipts = reported({1: 0.9, 2: 0.4, 3: 0.5, 4: 0.3})
    wrong = msgspec.structs.replace(receipts[-1], best=Best(receipt_hash(receipts[0]), 1, 0.4))
    assert "another best round" in (fault([*receipts[:-1], wrong]) or "")
    if changes.get("metrics") != {"pooled": {"loss": 0.3}}:
        assert seen in (fault(receipts, **changes) or "")


def test_test_scores_before_the_test_and_a_second_closing_round_are_seen() -> None:
    receipts = reported({1: 0.9, 2: 0.4, 3: 0.5, 4: 0.6})
    assert "other rows" in (fault(receipts, 1, metrics={"test": {"loss": 0.4}}) or "")
    again = msgspec.structs.replace(receipts[-1], round=5, previous=receipt_hash(receipts[-1]))
    assert course_fault(RUN, receipts[-1], again) == "the run has no such round"


def test_the_course_goes_from_training_over_one_closing_round_to_the_test() -> None:
    one, _two, three, closing = reported({1: 0.9, 2: 0.4, 3: 0.5, 4: 0.6})
    stopped = msgspec.structs.replace(one, metrics={"stopping": {"stopped": 1}})
    assert [kind_of(RUN, number) for number in range(1, LAST + 1)] == [
        *["update"] * ROUNDS, *["closing"] * CLOSING_TRIES, "test"
    ]  # fmt: skip
    assert next_round(RUN, None, 0) == 1
    assert next_round(RUN, one, 1) == 2 and next_round(RUN, one, 2) == 3
    assert next_round(RUN, stopped, 1) == 4 and not may_follow(RUN, stopped, 2)
    assert next_round(RUN, three, 3) == 4 and next_round(RUN, three, 5) == 6
    assert next_round(RUN, three, 6) is None, "all three were given up, and nothing is tested"
    assert next_round(RUN, closing, 4) == LAST and next_round(RUN, closing, LAST) is None
    assert next_round(RUN, None, ROUNDS) is None
    assert not is_over(RUN, three) and not is_over(RUN, stopped) and is_over(RUN, closing)


def test_an_enclave_keeps_the_parameters_of_the_round_that_it_names() -> None:
    one, two, three = reported({1: 0.9, 2: 0.4, 3: 0.5})
    first, second = {"w": "of round 1"}, {"w": "of round 2"}

    def steered(receipt: Receipt, state: Any, best: Any, kind: Any, loss: float | None) -> Any:
        numbers = {} if loss is None else {"loss": loss}
        published = Published(numbers, WITHHELD if loss is None else SCORED)
        return steer(LatestRound(receipt, state, best), kind, published, 0)

    better = steered(one, first, None, "update", 0.4)
    assert (better.best.round, better.state) == (1, first)
    worse = steered(two, second, first, "update", 0.5)
    assert (worse.best.round, worse.state) == (1, first)
    assert steered(three, second, first, "closing", 0.7).state == first
    alone = steered(three, second, first, "closing", None)
    assert (alone.best, alone.state) == (None, None), "scores of one site choose nothing"
