"""The reader's two promises, over any bytes and any table: it ends in rows or in a refusal, never in a
traceback; and every line that holds something is a row or a named fault, never silently nothing."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.refusal import Refusal
from site_agent.datasets.columns import Columns
from site_agent.datasets.formats import detect
from site_agent.datasets.intake import Wishes, take_in
from site_agent.datasets.readers import Fault, Record, read

HYPOTHESIS = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
BEGINNINGS = (
    b"", b"text,label\n", b"text\tlabel\r\n", b"sep=;\ntext;label\n", b'{"text": "a", "label": "b"}\n',
    b"PAR1", b"PK\x03\x04", b"\x1f\x8b\x08\x00", gzip.compress(b"text,label\n"),
    codecs.BOM_UTF8, codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE, b"\x00", b'"', b"[", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
)  # fmt: skip
SIGNS = st.sampled_from("ab1.,;\t| -\\'\x1a\x85\u2028\ufeff\u00e9\u0301\U0001f600")
CELL = st.one_of(
    st.text(SIGNS, max_size=6), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


# A NUL among the first signs is no text at all; `test_any_bytes…` has them.


def everything(path: Path, **said: Any) -> list[Record | Fault]:
    return list(read(path, detect(path, **said)))


@HYPOTHESIS
@given(
    beginning=st.sampled_from(BEGINNINGS),
    rest=st.binary(max_size=300) | st.text(max_size=200).map(str.encode),
    name=st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.xlsx", "a"]),
    encoding=st.sampled_from([None, None, "utf-8", "utf-16", "cp1252", "utf-7", "rot13", "punycode", "idna"]),
    skip_bad=st.booleans(),
)
def test_any_bytes_end_in_rows_or_in_a_refusal(
    tmp_path: Path, beginning: bytes, rest: bytes, name: str, encoding: str | None, skip_bad: bool
) -> None:
    file, target = tmp_path / name, tmp_path / "kept.jsonl"
    file.write_bytes(beginning + rest)
    target.unlink(missing_ok=True)
    try:
        take_in([file], target, Wishes(encoding=encoding, skip_bad=skip_bad))
    except Refusal:
        assert not target.exists()
    else:
        assert target.exists()
    assert not list(tmp_path.glob(".*")), "a draft was left behind"


@HYPOTHESIS
@given(lines=st.lists(st.text(SIGNS, max_size=12), max_size=12), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_every_line_of_a_table_without_quotes_is_a_row_or_a_fault(
    tmp_path: Path, lines: list[str], end: str
) -> None:
    file = tmp_path / "notes.csv"
    file.write_bytes(end.join(["text,label", *lines, ""]).encode())
    found = everything(file)
    holding = [number for number, line in enumerate(lines, 2) if line.strip(", ")]
    counted = [one.line for one in found]
    assert set(holding) <= set(counted) and len(counted) == len(set(counted)) <= len(lines)
    assert all(isinstance(one, Record | Fault) for one in found)


@HYPOTHESIS
@given(
    rows=st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=10),
    delimiter=st.sampled_from(",;\t|"),
    packed=st.booleans(),
)
def test_every_row_of_a_quoted_table_is_a_row_or_a_fault(
    tmp_path: Path, rows: list[list[str]], delimiter: str, packed: bool
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["text", "label"], *rows])
    data = out.getvalue().encode()
    file = tmp_path / "notes.csv"
    file.write_bytes(gzip.compress(data) if packed else data)
    found = everything(file)
    assert len(found) == sum(any(cells) for cells in rows)
    values = [list(one.values.values()) for one in found if isinstance(one, Record)]
    assert values == [
        cells for cells in rows if len(cells) == 2 and any(cells) and cells != ["text", "label"]
    ]


@HYPOTHESIS
@given(lines=st.lists(JSON.map(json.dumps) | st.text(SIGNS, max_size=8), max_size=10))
def test_every_json_line_is_a_row_or_a_fault(tmp_path: Path, lines: list[str]) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_bytes("\n".join(['{"text": "a", "label": "b"}', *lines, ""]).encode())
    holding = [number for number, line in enumerate(lines, 2) if line.strip()]
    assert [one.line for one in everything(file)] == [1, *holding]


@HYPOTHESIS
@given(
    rows=st.lists(
        st.tuples(CELL, st.sampled_from(["red", "green", "", "NA", "1.0"])), min_size=20, max_size=30
    ),
    short=st.sets(st.integers(0, 29), max_size=3),
    drop=st.booleans(),
)
def test_rows_that_are_not_kept_are_counted_by_why(
    tmp_path: Path, rows: list[tuple[str, str]], short: set[int], drop: bool
) -> None:
    rows = [(f"{number} {text}", label) for number, (text, label) in enumerate(rows)]
    out = io.StringIO(newline="")
    lines = [row[:1] if number in short else row for number, row in enumerate(rows)]
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *lines])
    file = tmp_path / "notes.csv"
    file.write_bytes(out.getvalue().encode())
    columns = Columns(text="text", label="label")
    wishes = Wishes(columns, skip_bad=True, drop_missing_labels=drop, drop_duplicates=drop,
                    drop_rare_labels=drop)  # fmt: skip
    try:
        intake = take_in([file], tmp_path / "kept.jsonl", wishes)
    except Refusal as refusal:
        assert refusal.code in ("dataset.too_small", "dataset.too_many_labels")
        return
    kept = len(re.findall(b"\n", (tmp_path / "kept.jsonl").read_bytes()))
    assert kept == len(intake.rows.texts) == len(rows) - intake.fault_count - intake.dropped.total()
