"""Files become rows: everything is kept to the character, or named by its line. Nothing is lost silently."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.refusal import Refusal
from contracts.rows import Row, read_row
from site_agent.datasets import formats, intake
from site_agent.datasets.columns import Columns
from site_agent.datasets.intake import BadRows, Wishes, take_in

GOOD = [(f"note number {index} about a patient", "red" if index % 2 else "green") for index in range(20)]
HYPOTHESIS = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Anything that UTF-8 can hold, but for NUL and for blank texts (they are refused, as other tests show).
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(
    str.strip
)
LABELS = st.sampled_from(["red", "yellow", "green", "blau", "größer"])
ROWS = st.lists(st.tuples(TEXTS, LABELS), min_size=20, max_size=24, unique_by=lambda row: row[0])


def kept(target: Path) -> list[Row]:
    return [read_row(line) for line in target.read_bytes().splitlines()]


def take(tmp_path: Path, data: bytes | str, name: str = "notes.csv", **wishes: Any) -> tuple[Any, list[Row]]:
    """Read a file with this content: what was inferred, and the rows that were kept."""
    source = tmp_path / name
    source.write_bytes(data if isinstance(data, bytes) else data.encode())
    target = tmp_path / "kept.jsonl"
    target.unlink(missing_ok=True)
    roles = {role: wishes.pop(role) for role in list(wishes) if role in Columns.__dataclass_fields__}
    return take_in([source], target, Wishes(Columns(**roles), **wishes)), kept(target)


def refused(tmp_path: Path, data: bytes | str, name: str = "notes.csv", **wishes: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        take(tmp_path, data, name, **wishes)
    assert not (tmp_path / "kept.jsonl").exists(), "a refused file left rows behind"
    assert not list(tmp_path.glob(".*")), "a refused file left a draft behind"
    return caught.value


def as_csv(rows: list[tuple[str, str]], delimiter: str = ",", end: str = "\r\n", header: bool = True) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    if header:
        writer.writerow(("text", "label"))
    writer.writerows(rows)
    return out.getvalue()


def as_json_lines(rows: list[tuple[str, str]], ascii_only: bool = True) -> str:
    lines = (json.dumps({"text": t, "label": la}, ensure_ascii=ascii_only) for t, la in rows)
    return "".join(f"{line}\n" for line in lines)


@HYPOTHESIS
@given(rows=ROWS, end=st.sampled_from(["\n", "\r\n"]), delimiter=st.sampled_from(",;\t|"), mark=st.booleans())
def test_a_table_comes_back_to_the_character(
    tmp_path: Path, rows: list[tuple[str, str]], end: str, delimiter: str, mark: bool
) -> None:
    data = as_csv(rows, delimiter, end).encode("utf-8-sig" if mark else "utf-8")
    _, found = take(tmp_path, data)
    assert [(row.text, row.label) for row in found] == rows


@HYPOTHESIS
@given(rows=ROWS, ascii_only=st.booleans(), mark=st.booleans(), packed=st.booleans())
def test_json_lines_come_back_to_the_character(
    tmp_path: Path, rows: list[tuple[str, str]], ascii_only: bool, mark: bool, packed: bool
) -> None:
    data = as_json_lines(rows, ascii_only).encode("utf-8-sig" if mark else "utf-8")
    _, found = take(tmp_path, gzip.compress(data) if packed else data, "notes.jsonl")
    assert [(row.text, row.label) for row in found] == rows


@HYPOTHESIS
@given(rows=ROWS, dictionary=st.booleans())
def test_parquet_comes_back_to_the_character(
    tmp_path: Path, rows: list[tuple[str, str]], dictionary: bool
) -> None:
    labels = pyarrow.array([label for _, label in rows])
    table = pyarrow.table(
        {"text": [text for text, _ in rows], "label": labels.dictionary_encode() if dictionary else labels}
    )
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    _, found = take(tmp_path, buffer.getvalue(), "notes.parquet")
    assert [(row.text, row.label) for row in found] == rows


@HYPOTHESIS
@given(
    bad=st.sets(st.integers(0, 29), min_size=1, max_size=12),
    broken=st.sampled_from(["{", "[1]", '"x"', "nul"]),
)
def test_bad_json_lines_are_numbered_and_no_others(tmp_path: Path, bad: set[int], broken: str) -> None:
    lines = as_json_lines([(f"{text} {n}", label) for n in (1, 2) for text, label in GOOD][:30]).splitlines()
    data = "\n".join(broken if number in bad else line for number, line in enumerate(lines))
    if 0 in bad:
        data = "\n" + data  # a file whose first character is not { is no JSON lines: begin with an empty line
        bad = {number + 1 for number in bad}
    if data.lstrip()[0] != "{":
        data = lines[0] + "\n" + data
        bad = {number + 1 for number in bad}
    refusal = refused(tmp_path, data, "notes.jsonl")
    assert isinstance(refusal, BadRows)
    assert {fault.line for fault in refusal.faults} == {number + 1 for number in bad}
    assert refusal.count == len(bad)

    found, rows = take(tmp_path, data, "notes.jsonl", skip_bad=True)
    assert found.fault_count == len(bad)
    assert len(rows) == len([line for line in data.splitlines() if line]) - len(bad)


@HYPOTHESIS
@given(rows=ROWS, at=st.integers(0, 19), breaks=st.integers(1, 4))
def test_a_bad_row_after_quoted_line_breaks_has_its_own_line(
    tmp_path: Path, rows: list[tuple[str, str]], at: int, breaks: int
) -> None:
    rows = [(f"{index} " + text.replace("\r", " "), label) for index, (text, label) in enumerate(rows)]
    rows[0] = ("first" + "\n" * breaks + "row", "red")
    before = as_csv(rows[: at + 1], end="\n")
    data = before + "one cell only\n" + as_csv(rows[at + 1 :], end="\n", header=False)
    refusal = refused(tmp_path, data)
    assert refusal.code == "dataset.mixed_columns"
    assert isinstance(refusal, BadRows)
    assert [fault.line for fault in refusal.faults] == [before.count("\n") + 1]


def test_columns_that_differ_are_refused_by_their_code(tmp_path: Path) -> None:
    lines = as_json_lines(GOOD).splitlines()
    lines[4] = json.dumps({"note": "another layout", "label": "red"})
    lines[9] = json.dumps({"text": "more columns", "label": "red", "age": 40})
    refusal = refused(tmp_path, "\n".join(lines), "notes.jsonl")
    assert refusal.code == "dataset.mixed_columns"
    assert refusal.facts == {"count": 2, "lines": "5, 10"}


def test_skipped_rows_are_counted_and_named(tmp_path: Path) -> None:
    data = as_csv(GOOD[:12]) + "\r\n" + '"","red"\r\n"fine","red"\r\n"no label",""\r\n'
    found, rows = take(tmp_path, data, skip_bad=True)
    assert [(fault.line, fault.reason) for fault in found.faults] == [
        (15, "the text is empty"),
        (17, "the label is empty"),
    ]
    assert len(rows) == 13


def test_more_faults_than_are_shown_are_still_counted(tmp_path: Path) -> None:
    lines = as_json_lines(GOOD).splitlines() + ["{"] * 300
    refusal = refused(tmp_path, "\n".join(lines), "notes.jsonl")
    assert isinstance(refusal, BadRows)
    assert (refusal.count, len(refusal.faults)) == (300, intake.SHOWN_FAULTS)


def test_a_refusal_quotes_no_content(tmp_path: Path) -> None:
    secret = "Mrs Canary-4711"
    data = as_json_lines([(f"{secret} {n}", "red") for n in range(20)]) + f'{{"text": "{secret}", "lab\n'
    refusal = refused(tmp_path, data, "notes.jsonl")
    assert isinstance(refusal, BadRows)
    assert "Canary" not in f"{refusal} {refusal.facts} {refusal.faults} {refusal!r}"


def test_invalid_utf8_is_named_by_line_when_the_file_is_utf8_elsewhere(tmp_path: Path) -> None:
    lines = [line.encode() for line in as_csv([*GOOD, ("größer", "red")], end="\n").splitlines()]
    lines[3] = b'"gr\xf6\xdfer","red"'
    refusal = refused(tmp_path, b"\n".join(lines) + b"\n")
    assert isinstance(refusal, BadRows)
    assert [fault.line for fault in refusal.faults] == [4]
    assert "not valid in the file's encoding" in refusal.faults[0].reason


def test_windows_1252_is_inferred_and_shown(tmp_path: Path) -> None:
    found, rows = take(tmp_path, as_csv([("größer als üblich", "red"), *GOOD]).encode("windows-1252"))
    assert rows[0].text == "größer als üblich"
    assert "windows-1252 (inferred" in str(found.formats[0][1])


def test_a_named_encoding_is_used_and_an_unknown_one_refused(tmp_path: Path) -> None:
    data = as_csv([("żółć", "red"), *GOOD]).encode("iso8859-2")
    _, rows = take(tmp_path, data, encoding="iso8859-2")
    assert rows[0].text == "żółć"
    assert refused(tmp_path, data, encoding="klingon").code == "dataset.unknown_encoding"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf16_is_read_by_its_mark(tmp_path: Path, encoding: str) -> None:
    data = as_csv([("größer", "red"), *GOOD]).encode(encoding)
    if encoding == "utf-16":
        _, rows = take(tmp_path, data)
        assert rows[0].text == "größer"
    else:  # without a mark it is named, not guessed
        assert refused(tmp_path, data).code == "dataset.looks_utf16"


def test_a_nul_character_is_a_bad_row(tmp_path: Path) -> None:
    refusal = refused(tmp_path, as_csv([*GOOD, ("a\0b", "red")]))
    assert isinstance(refusal, BadRows)
    assert [(fault.line, fault.reason) for fault in refusal.faults] == [
        (22, "the text holds a NUL character")
    ]


def test_a_lone_surrogate_in_json_is_a_bad_row(tmp_path: Path) -> None:
    data = as_json_lines(GOOD) + '{"text": "half \\ud800", "label": "red"}\n'
    refusal = refused(tmp_path, data, "notes.jsonl")
    assert isinstance(refusal, BadRows)
    assert [fault.line for fault in refusal.faults] == [21]


def test_a_name_that_stands_twice_would_lose_a_value(tmp_path: Path) -> None:
    data = as_json_lines(GOOD) + '{"text": "a", "label": "red", "text": "b"}\n'
    assert refused(tmp_path, data, "notes.jsonl").facts["lines"] == "21"


@pytest.mark.parametrize("size", [intake.MAX_LABELS, formats.MAX_FIELD + 10])
def test_huge_fields_are_refused_or_named(tmp_path: Path, size: int) -> None:
    data = as_json_lines([*GOOD, ("x" * size, "red"), ("after it", "red")])
    if size < 200_000:
        assert len(take(tmp_path, data, "notes.jsonl")[1]) == 22
        return
    refusal = refused(tmp_path, data, "notes.jsonl")
    assert isinstance(refusal, BadRows)
    assert [(fault.line, "longer" in fault.reason) for fault in refusal.faults] == [(21, True)]
    assert refused(tmp_path, as_csv([*GOOD, ("x" * size, "red")])).code == "dataset.broken_quotes"


def test_an_open_quote_ends_the_reading_at_its_line_even_with_skip_bad(tmp_path: Path) -> None:
    data = as_csv(GOOD[:12], end="\n") + '"never closed,red\n' + as_csv(GOOD[12:], end="\n", header=False)
    refusal = refused(tmp_path, data, skip_bad=True)
    assert (refusal.code, refusal.facts["line"]) == ("dataset.broken_quotes", 14)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty.csv", b"", "dataset.empty"),
        ("blank.csv", b"\xef\xbb\xbf \n\n", "dataset.empty"),
        ("header.csv", b"text,label\n", "dataset.no_rows"),
        ("array.json", b'[{"text": "a"}]', "dataset.other_format"),
        ("image.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "dataset.unknown_format"),
        ("cut.jsonl.gz", gzip.compress(as_json_lines(GOOD * 50).encode())[:-20], "dataset.damaged"),
        ("cut.parquet", b"PAR1 and then nothing", "dataset.damaged"),
        ("nohead.csv", b"1,2\n3,4\n", "dataset.no_header"),
        ("twice.csv", b"text,text\na,b\n", "dataset.doubled_column"),
        ("onecol.csv", b"text\nsome words here\nmore words\n", "dataset.too_small"),  # texts without labels
    ],
)
def test_unusable_files_have_their_codes(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    assert refused(tmp_path, data, name).code == code


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught:
        take_in([tmp_path / "nowhere.csv"], tmp_path / "kept.jsonl", Wishes())
    assert caught.value.code == "dataset.unreadable"


def test_a_gzip_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_CONTENT_BYTES", 1 << 20)
    data = gzip.compress(as_json_lines([*GOOD, ("x" * (2 << 20), "red")]).encode())
    assert refused(tmp_path, data, "bomb.jsonl.gz").code == "dataset.too_large"


def test_too_few_rows_and_too_many_labels_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, as_csv(GOOD[:9])).code == "dataset.too_small"
    assert refused(tmp_path, as_csv([("the same", "red")] * 50)).code == "dataset.too_small"
    each_its_own = [(f"text of row {n}", f"label {n}") for n in range(40)]
    assert refused(tmp_path, as_csv(each_its_own)).code == "dataset.too_many_labels"


def test_a_text_of_tabs_without_quoting_keeps_its_quotation_marks(tmp_path: Path) -> None:
    rows = [('"Doctor" he said', "red"), *GOOD]
    data = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)
    _, found = take(tmp_path, data, "notes.tsv")
    assert found[0].text == '"Doctor" he said'


@pytest.mark.parametrize(("cell", "label"), [(3, "3"), (3.0, "3"), (True, "true"), (" red ", "red")])
def test_labels_that_are_not_text_become_text(tmp_path: Path, cell: Any, label: str) -> None:
    lines = [json.dumps({"text": f"note {n} with words", "label": cell}) for n in range(20)]
    _, rows = take(tmp_path, "\n".join(lines), "notes.jsonl")
    assert {row.label for row in rows} == {label}


def test_columns_are_inferred_without_their_usual_names(tmp_path: Path) -> None:
    rows = [
        {"id": n, "was_war": f"eine längere Notiz, Nummer {n}", "dringlichkeit": "rot" if n % 3 else "grün"}
        for n in range(30)
    ]
    found, _ = take(tmp_path, "\n".join(json.dumps(row) for row in rows), "notes.jsonl")
    assert (found.columns.text, found.columns.label) == ("was_war", "dringlichkeit")


def test_a_doubtful_column_is_asked_for_with_its_candidates(tmp_path: Path) -> None:
    rows = [
        {"text": f"some note {n}", "a": "x" if n % 2 else "y", "b": "p" if n % 3 else "q"} for n in range(30)
    ]
    data = "\n".join(json.dumps(row) for row in rows)
    refusal = refused(tmp_path, data, "notes.jsonl")
    assert (refusal.code, refusal.facts["columns"]) == ("dataset.which_column", "a, b")
    found, _ = take(tmp_path, data, "notes.jsonl", label="b")
    assert set(found.labels) == {"p", "q"}
    assert refused(tmp_path, data, "notes.jsonl", label="c").code == "dataset.no_column"


def test_split_and_site_columns_are_used(tmp_path: Path) -> None:
    rows = [
        {
            "text": f"note {n}",
            "label": "ab"[n % 2],
            "fold": ("train", "dev", "test")[n % 3],
            "hospital": "AB"[n % 4 // 2],
        }
        for n in range(60)
    ]
    data = "\n".join(json.dumps(row) for row in rows)
    found, kept_rows = take(tmp_path, data, "notes.jsonl", only_sites=("A",))
    assert (found.other_sites, len(kept_rows), dict(found.sites)) == (30, 30, {"A": 30})
    assert found.splits == Counter(train=10, validation=10, test=10)
    assert found.splits_from == "its column"


def test_the_files_names_give_the_splits(tmp_path: Path) -> None:
    for name, rows in (("train", GOOD), ("validation", GOOD[:6])):
        (tmp_path / f"{name}.jsonl").write_text(as_json_lines(rows))
    target = tmp_path / "kept.jsonl"
    found = take_in([tmp_path / "train.jsonl", tmp_path / "validation.jsonl"], target, Wishes())
    assert found.splits == Counter(train=18, validation=6, test=2), (
        "a run needs test rows, so train gives some"
    )
    assert "no test rows" in found.splits_from


def test_a_second_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(as_json_lines(GOOD))
    (tmp_path / "test.csv").write_text("note,label\na,b\n")
    with pytest.raises(Refusal) as caught:
        take_in([tmp_path / "train.jsonl", tmp_path / "test.csv"], tmp_path / "kept.jsonl", Wishes())
    assert caught.value.code == "dataset.no_column"


def test_the_kept_file_is_private(tmp_path: Path) -> None:
    take(tmp_path, as_csv(GOOD))
    assert (tmp_path / "kept.jsonl").stat().st_mode & 0o777 == 0o600
