"""What `dataset add` guesses it asks; what stands out somebody decides before a card is published."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

from contracts.labels import look_alikes
from contracts.refusal import Refusal
from site_agent.cli import main
from site_agent.dataset_questions import agreed, require_answers
from site_agent.datasets.catalogue import Catalogue
from site_agent.datasets.intake import Wishes
from site_agent.state import State
from tests.site_agent.test_dataset_reading import as_csv, refused, take

TEN = [(f"note number {index} about a patient", "red" if index % 2 else "green") for index in range(20)]
NAMED = ("--text-column", "text", "--label-column", "label")
Add = Callable[..., tuple[int, str]]


@pytest.fixture
def add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Add:
    """`dataset add` of a table at a site that is not enrolled, in a process without a terminal."""

    def run(content: str | bytes, *said: str, name: str = "notes.csv") -> tuple[int, str]:
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        status = main(["--state", str(tmp_path / "state"), "dataset", "add", str(file), *said])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def kept(tmp_path: Path) -> list[str]:
    """The names of the datasets that are kept; and no rows lie about beside theirs."""
    state = State.open(tmp_path / "state")
    datasets = Catalogue(state).all()
    files = {file.name for file in state.datasets.glob("*.jsonl")}
    assert files == {dataset.file for dataset in datasets}
    return [dataset.name for dataset in datasets]


def test_a_guessed_label_column_is_not_published_without_a_terminal(add: Add, tmp_path: Path) -> None:
    rows = "".join(f"a long note about what the patient said in week {n},Surname{n % 9}\n" for n in range(90))
    status, text = add("note,surname\n" + rows, "--yes")
    assert status != 0 and "dataset.unconfirmed_columns" in text
    assert "--text-column note --label-column surname" in text
    assert kept(tmp_path) == []


def test_a_person_who_only_presses_enter_publishes_nothing() -> None:
    assert not agreed(lambda question: "")
    assert agreed(lambda question: "Yes")
    with pytest.raises(Refusal) as caught:
        agreed()
    assert caught.value.code == "dataset.publish_unsaid"


@pytest.mark.parametrize(("first", "words"), [("case", "case"), ("", "the first column, which has no name")])
def test_every_column_that_is_not_used_is_named(add: Add, first: str, words: str) -> None:
    rows = "".join(f"{n},{text},{label},ward {n}\n" for n, (text, label) in enumerate(TEN))
    status, text = add(f"{first},text,label,ward\n" + rows, *NAMED, "--no-publish")
    assert status == 0 and f"not used, neither kept nor published: {words}, ward" in text


def test_names_of_labels_with_few_rows_need_an_answer(add: Add, tmp_path: Path) -> None:
    rare = as_csv([*TEN, ("a very rare case indeed", "Morbus Rarissimus")])
    status, text = add(rare, *NAMED, "--yes")
    assert status != 0 and "--drop-rare-labels or --keep rare-labels" in text and kept(tmp_path) == []
    status, text = add(rare, *NAMED, "--drop-rare-labels", "--no-publish")
    assert status == 0 and "1 row left out, as asked: rare labels" in text
    card = text[text.index("The card of") :]
    assert "Morbus" not in card and "red" in card


@pytest.mark.parametrize(
    "group",
    [
        ("Red", "red"),
        ("red", "ｒｅｄ"),
        ("Cardiologie générale", "Cardiologie ge\u0301ne\u0301rale"),
        ("0", "0.0"),
        ("1", "01"),
        ("Herz  Kreislauf", "herz kreislauf"),
        ("zero\u200bwidth", "zerowidth"),
    ],
)
def test_labels_that_look_alike_are_found(group: tuple[str, ...]) -> None:
    distinct = sorted({label for label in group if label.strip()})
    found = look_alikes([*distinct, "something else"])
    assert found == (tuple(distinct),)


@given(st.lists(st.integers(0, 500), min_size=2, max_size=8, unique=True))
def test_different_whole_numbers_do_not_look_alike(numbers: list[int]) -> None:
    assert look_alikes([str(number) for number in numbers]) == ()


def test_look_alikes_are_renamed_or_kept_by_somebody_who_says_so(add: Add, tmp_path: Path) -> None:
    table = as_csv([(text, label if n % 3 else label.upper()) for n, (text, label) in enumerate(TEN)])
    status, text = add(table, *NAMED, "--yes")
    assert status != 0 and "--rename-label FROM=TO or --keep look-alikes" in text
    assert "'GREEN' / 'green'" in text and kept(tmp_path) == []
    renamed = ["--rename-label", "GREEN=green", "--rename-label", "RED=red"]
    status, text = add(table, *NAMED, *renamed, "--no-publish", "--json")
    assert status == 0 and set(json.loads(text)["card"]["labels"]) == {"green", "red"}
    status, text = add(table, *NAMED, "--rename-label", "blue=red", "--name", "other", "--no-publish")
    assert status != 0 and "dataset.unknown_label" in text


def test_look_alikes_of_train_and_test_rows_are_asked_about_and_seen_to_differ(add: Add) -> None:
    rows = [(text, f"g\u00e9n\u00e9ral{'' if n % 2 else 'e'}", "train") for n, (text, _) in enumerate(TEN)]
    rows += [(f"{text}, judged", "ge\u0301ne\u0301ral", "test") for text, _ in TEN]
    table = "text,label,split\n" + "".join(f'"{text}",{label},{split}\n' for text, label, split in rows)
    status, text = add(table, *NAMED, "--yes")
    assert status != 0 and "--rename-label FROM=TO or --keep look-alikes" in text
    assert "'ge<U+0301>ne<U+0301>ral' / 'g\u00e9n\u00e9ral'" in text


def test_words_for_nothing_are_said_and_dropped_only_when_asked(add: Add) -> None:
    words = ["NA", "None", "null", "#N/A", "-"]
    table = as_csv([*TEN, *((f"a note without a label {n}", words[n % 5]) for n in range(25))])
    status, text = add(table, *NAMED, "--yes")
    assert status != 0 and "--drop-missing-labels or --keep missing-labels" in text
    status, text = add(table, *NAMED, "--drop-missing-labels", "--no-publish", "--json")
    seen = json.loads(text)
    assert status == 0 and seen["dropped"] == {"missing labels": 25}
    assert set(seen["card"]["labels"]) == {"green", "red"}


def test_test_rows_that_are_trained_on_are_counted_and_can_be_left_out(add: Add) -> None:
    lines = [f"{text},{label},train" for text, label in TEN] + [f"{text},{label},test" for text, label in TEN]
    table = "text,label,split\n" + "\n".join([*lines, "a note of its own,red,test"]) + "\n"
    status, text = add(table, *NAMED, "--no-publish", "--json")
    assert status == 0 and json.loads(text)["findings"]["leaks"] == 20
    status, text = add(table, *NAMED, "--drop-leaks", "--name", "clean", "--no-publish", "--json")
    seen = json.loads(text)
    assert seen["dropped"] == {"leaks": 20} and seen["findings"]["leaks"] == 0 and seen["card"]["rows"] == 21


def test_rows_that_stand_there_twice_are_counted_and_can_be_left_out(add: Add) -> None:
    status, text = add(as_csv([*TEN, *TEN[:7]]), *NAMED, "--no-publish", "--json")
    assert status == 0 and json.loads(text)["findings"]["duplicates"] == 7
    said = ["--drop-duplicates", "--name", "once", "--no-publish", "--json"]
    assert json.loads(add(as_csv([*TEN, *TEN[:7]]), *NAMED, *said)[1])["card"]["rows"] == 20


def test_an_answer_covers_its_own_question_only(tmp_path: Path) -> None:
    intake, _ = take(
        tmp_path, as_csv([*TEN, ("one more note", "Red"), ("and another", "n/a")]), text="text", label="label"
    )
    asked: list[str] = []
    with pytest.raises(Refusal) as caught:
        require_answers(intake, ["rare-labels"], lambda question: str(asked.append(question)))
    assert caught.value.code == "dataset.unanswered"
    assert caught.value.facts["kinds"] == "missing-labels, look-alikes" and len(asked) == 2


@pytest.mark.parametrize(
    ("head", "end", "delimiter"),
    [("sep=;\r\n", "", ";"), ("", ",", ","), ("\ufeffsep=;\n", "", ";")],
    ids=["excel's separator line", "a trailing comma", "both marks"],
)
def test_excels_habits_are_read_where_they_are_certain(
    tmp_path: Path, head: str, end: str, delimiter: str
) -> None:
    lines = [f"text{delimiter}label{end}", *(f"{text}{delimiter}{label}{end}" for text, label in TEN)]
    _, rows = take(tmp_path, head + "\n".join(lines) + "\n")
    assert [(row.text, row.label) for row in rows] == TEN


def test_a_nameless_index_column_is_left_alone(tmp_path: Path) -> None:
    lines = [f"{n},{text},{label}" for n, (text, label) in enumerate(TEN)]
    _, rows = take(tmp_path, ",text,label\n" + "\n".join(lines) + "\n")
    assert [(row.text, row.label) for row in rows] == TEN


def test_titles_above_the_header_are_named_and_can_be_skipped(tmp_path: Path) -> None:
    lines = [
        "Export from KIS 12.3,,",
        "Date: 2026-01-01,,",
        "text,label,ward",
        *(f"{t},{la},x" for t, la in TEN),
    ]
    table = "\n".join(lines) + "\n"
    refusal = refused(tmp_path, table)
    assert (refusal.code, refusal.facts["line"]) == ("dataset.title_lines", 1)
    _, rows = take(tmp_path, table, skip_lines=2, text="text", label="label")
    assert len(rows) == 20


def test_utf16_without_its_mark_is_named(tmp_path: Path) -> None:
    refusal = refused(tmp_path, as_csv([("Größe unverändert", "ja"), *TEN]).encode("utf-16-le"))
    assert (refusal.code, refusal.facts["encoding"]) == ("dataset.looks_utf16", "utf-16-le")
    assert len(take(tmp_path, as_csv(TEN).encode("utf-16-le"), encoding="utf-16-le")[1]) == 20


def test_nan_in_a_column_that_nobody_uses_is_no_fault(tmp_path: Path) -> None:
    lines = [json.dumps({"text": t, "label": la, "score": float("nan")}) for t, la in TEN]
    assert len(take(tmp_path, "\n".join(lines) + "\n", "notes.jsonl")[1]) == 20


def test_the_character_that_cannot_be_seen_is_named(tmp_path: Path) -> None:
    table = as_csv([(text, f"{label}\u200b") for text, label in TEN])
    refusal = refused(tmp_path, table)
    assert refusal.code == "dataset.bad_rows"
    assert "U+200B (ZERO WIDTH SPACE)" in refusal.faults[0].reason  # type: ignore[attr-defined]


@pytest.mark.parametrize("layout", [pyarrow.string_view(), pyarrow.binary(), pyarrow.large_string()])
def test_parquets_layouts_of_text_are_read(tmp_path: Path, layout: pyarrow.DataType) -> None:
    texts = [text.encode() if layout == pyarrow.binary() else text for text, _ in TEN]
    columns = {"text": pyarrow.array(texts, layout), "label": pyarrow.array([label for _, label in TEN])}
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    assert [row.text for row in take(tmp_path, out.getvalue(), "notes.parquet")[1]] == [
        text for text, _ in TEN
    ]


def test_parquets_decimal_codes_are_whole_numbers(tmp_path: Path) -> None:
    codes = pyarrow.array([Decimal(n % 2) for n in range(20)], pyarrow.decimal128(5, 0))
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": [text for text, _ in TEN], "label": codes}), out)
    assert {row.label for row in take(tmp_path, out.getvalue(), "notes.parquet")[1]} == {"0", "1"}


def test_a_column_of_a_type_that_is_no_text_is_named_once(tmp_path: Path) -> None:
    out = io.BytesIO()
    lists = pyarrow.array([[n] for n in range(20)])
    pyarrow.parquet.write_table(pyarrow.table({"text": lists, "label": [label for _, label in TEN]}), out)
    refusal = refused(tmp_path, out.getvalue(), "notes.parquet", text="text", label="label")
    assert (refusal.code, refusal.facts["type"]) == ("dataset.column_type", "list<element: int64>")


def workbook(rows: list[tuple[object, ...]], sheets: int = 1) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        for _ in range(sheets):
            sheet = book.add_worksheet()
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return out.getvalue()


def test_a_workbook_is_read_and_its_whole_numbers_stay_whole(tmp_path: Path) -> None:
    book = workbook([("text", "label"), *((text, n % 2) for n, (text, _) in enumerate(TEN))])
    _, rows = take(tmp_path, book, "notes.xlsx")
    assert [(row.text, row.label) for row in rows] == [(text, str(n % 2)) for n, (text, _) in enumerate(TEN)]


def test_a_workbook_with_two_filled_sheets_is_a_question(tmp_path: Path) -> None:
    refusal = refused(tmp_path, workbook([("text", "label"), *TEN], sheets=2), "notes.xlsx")
    assert (refusal.code, refusal.facts["sheets"]) == ("dataset.which_sheet", "Sheet1, Sheet2")


def test_a_zip_file_that_is_no_workbook_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("notes.csv", as_csv(TEN))
    assert refused(tmp_path, out.getvalue(), "notes.xlsx").code == "dataset.other_format"
    assert refused(tmp_path, out.getvalue()[:40], "notes.xlsx").code == "dataset.damaged"


@given(st.binary(max_size=400))
def test_bytes_that_only_begin_like_a_workbook_end_in_a_refusal(data: bytes) -> None:
    from tempfile import TemporaryDirectory

    from site_agent.datasets.workbooks import sheet_rows

    with TemporaryDirectory() as folder:
        file = Path(folder) / "x.xlsx"
        file.write_bytes(b"PK\x03\x04" + data)
        with pytest.raises(Refusal):
            list(sheet_rows(file))


def test_a_pipe_is_read_once_and_its_rows_are_kept(add: Add, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(as_csv(TEN)), daemon=True)
    writer.start()
    status = main(
        [
            "--state",
            str(tmp_path / "state"),
            "dataset",
            "add",
            str(pipe),
            "--name",
            "piped",
            *NAMED,
            "--no-publish",
        ]
    )
    writer.join(timeout=30)
    assert status == 0 and kept(tmp_path) == ["piped"]
    assert not list(State.open(tmp_path / "state").datasets.glob(".pipe-*"))


def test_a_pipe_to_which_nobody_writes_is_named_while_it_is_waited_for(tmp_path: Path) -> None:
    """It waited in silence, for ever."""
    pipe = tmp_path / "notes.csv"
    os.mkfifo(pipe)
    state = str(tmp_path / "state")
    words = [sys.executable, "-m", "site_agent", "--state", state, "dataset", "add", str(pipe), *NAMED]
    adding = subprocess.Popen([*words, "--no-publish"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert adding.stderr is not None
    assert f"Waiting for something to write to the pipe {pipe}" in adding.stderr.readline().decode()
    with pipe.open("w") as writer:
        writer.write(as_csv(TEN[:5]))
        writer.flush()
        writer.write("".join(as_csv(TEN[5:]).splitlines(keepends=True)[1:]))
    assert adding.wait(60) == 0 and kept(tmp_path) == ["notes"]


@pytest.mark.parametrize("file", ["/dev/stdin", "/dev/fd/63", "/proc/self/fd/0"])
def test_what_has_no_name_of_its_own_is_asked_for_one(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`<(zcat notes.csv.gz)` is called /dev/fd/63: a dataset "63" was published."""
    state = str(tmp_path / "state")
    assert main(["--state", state, "dataset", "add", file, *NAMED, "--no-publish"]) == 1
    assert "[dataset.unnamed]" in (said := capsys.readouterr().err) and "--name NAME" in said


def test_a_draft_that_nobody_confirmed_leaves_no_rows(tmp_path: Path) -> None:
    catalogue = Catalogue(State.open(tmp_path / "state"))
    file = tmp_path / "notes.csv"
    file.write_text(as_csv(TEN))
    dataset, _ = catalogue.draft([file], "notes", Wishes())
    with pytest.raises(KeyboardInterrupt), catalogue.drafted(dataset):
        raise KeyboardInterrupt
    assert kept(tmp_path) == []
