"""The table of families in docs/results.md says of every family what the architecture table does, and what
the passes of a registration see."""

from __future__ import annotations

import pytest

from benchmarks.families import BEGIN, COLUMNS, END, OTHER, RESULTS, TASKS, put, rows, table
from benchmarks.small_models import HEADS
from contracts.architecture.table import ARCHITECTURES


def reported() -> str:
    page = RESULTS.read_text(encoding="utf-8")
    return page[page.index(BEGIN) + len(BEGIN) : page.index(END)]


def test_the_page_has_every_family_and_task_and_refuses_what_the_architecture_table_does() -> None:
    lines = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in reported().strip().splitlines()[2:]
    ]
    named = {(name, does): dict(zip(COLUMNS, cells, strict=True)) for name, does, *cells in lines}
    for family, head in HEADS:
        row, found = ARCHITECTURES[family], named.pop((ARCHITECTURES[family].name, TASKS[head][0]))
        refused = {way for way, cell in found.items() if cell != "yes"}
        assert refused == (set() if row.prefix else {"all_in_tee/prefix", "masked/prefix"}), row.name
    assert list(named) == [("DeBERTa-v2", "sorts")]


@pytest.mark.parametrize("family", ["distilbert", "gpt2", OTHER])
def test_what_the_page_says_is_what_a_registration_sees_now(family: str) -> None:
    seen = list(rows(family))
    assert seen and all(line in reported() for line in table(seen).splitlines())


def test_the_table_is_put_between_its_marks_alone() -> None:
    page = f"before\n{BEGIN}old\n{END}after\n"
    assert put(page, "| new |\n") == f"before\n{BEGIN}\n| new |\n\n{END}after\n"
    with pytest.raises(SystemExit):
        put("no marks", "| new |\n")
