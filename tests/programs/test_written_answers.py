"""Written answers from a learner to a receipt: what is sealed, what is refused, what is told."""

from __future__ import annotations

import msgspec
import pytest

from contracts.canonical import canonical
from contracts.manifest import Publication
from contracts.receipts import NO_RECEIPT
from contracts.refusal import Refusal
from enclave.programs.contributions import Enclosed
from enclave.programs.opening import check
from enclave.programs.sealing import padded
from enclave.training.agreement import ONE
from enclave.training.metrics import Scores
from tests.programs.test_publication import publish

RULES = Publication(3, 20, written_rows=16, written_tokens=32)


def scores(rows: int = 40, written: int = 16, f1: float = 0.5, rouge_l: float = 0.25) -> Scores:
    line = (written, round(f1 * written * ONE), round(rouge_l * written * ONE))
    return Scores(rows, 3 * rows, rows, 9.0, (), rows // 2, rows // 2, (line,))


def test_means_are_pooled_by_rows_and_rounded_by_how_many_were_written() -> None:
    reported = publish(RULES, {"a": scores(f1=0.2), "b": scores(f1=0.4), "c": scores(f1=0.9)}, ()).numbers
    assert reported["written_rows"] == 48 and reported["rows"] == 120
    assert reported["token_f1"] == pytest.approx(0.5) and reported["rouge_l"] == pytest.approx(0.2)
    assert reported["token_f1"] / 0.1 == pytest.approx(
        round(reported["token_f1"] / 0.1)
    )  # 1 / (2 √48) = 0.072
    assert reported["exact_match"] == pytest.approx(0.5)


def test_nothing_is_told_of_few_written_rows() -> None:
    reported = publish(RULES, {site: scores(written=3) for site in "abc"}, ()).numbers
    assert "token_f1" not in reported and "written_rows" not in reported and reported["rows"] == 120


@pytest.mark.parametrize(
    "line", [(), (16, 0), (0, 0, 0), (41, 0, 0), (16, 16 * ONE + 1, 0), (16, 0, 16 * ONE + 1), (16, 0, 0, 0)]
)
def test_a_line_that_cannot_be_is_refused(line: tuple[int, ...]) -> None:
    check(scores(), 0, tables=True)
    with pytest.raises(Refusal, match=r"metrics\.mismatch"):
        check(msgspec.structs.replace(scores(), bins=(line,)), 0, tables=True)


def test_a_line_where_none_is_asked_for_and_none_where_one_is_are_refused() -> None:
    for bins, asked in ((scores().bins, False), ((), True)):
        with pytest.raises(Refusal, match=r"metrics\.mismatch"):
            check(msgspec.structs.replace(scores(), bins=bins), 0, tables=asked)


def test_the_size_of_a_contribution_does_not_tell_how_good_the_answers_were() -> None:
    sizes = {
        len(canonical(padded(Enclosed(NO_RECEIPT, 3, scores(f1=f1, rouge_l=f1))))) for f1 in (0.0, 0.1, 1.0)
    }
    assert len(sizes) == 1
