"""Files as people really send them: read where that is certain, else named as what they are."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import zipfile
from datetime import date
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import xlsxwriter

from contracts.labels import look_alikes, meant, spelled
from contracts.refusal import Refusal
from site_agent.cli import main
from site_agent.dataset_questions import require_answers
from site_agent.datasets.intake import BadRows
from site_agent.datasets.missing import looks_missing
from tests.site_agent.test_dataset_gate import NAMED, Add, add, workbook
from tests.site_agent.test_dataset_reading import as_csv, as_json_lines, refused, take

__all__ = ["add"]

ROWS = [(f"note number {n} about a patient", ("red", "green")[n % 2]) for n in range(20)]
PLAIN = as_csv(ROWS, end="\n")


def labelled(*labels: str) -> str:
    return as_csv([(text, labels[n % len(labels)]) for n, (text, _) in enumerate(ROWS)])


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, PLAIN)
    return out.getvalue()


def parquet(label: Any) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": [text for text, _ in ROWS], "label": label}), out)
    return out.getvalue()


@pytest.mark.parametrize(
    "twins",
    [
        ("A", "\u0410"), ("NO", "N\u039f"), ("follow-up", "follow\u2010up", "follow\u2013up"),
        ("urgent", "urgent."),
        ("St. John's", "St. John\u2019s"), ("not urgent", "not_urgent", "not-urgent"), ("5%", "5 %"),
        ("1", "1,0"), ("1.5", "1,50"), ("1", "\u0661", "\uff11"), ("TRUE", "True", "true"),
        ("générale", "generale"), ("\u0130lk", "ilk"), ("red", "red\u200f"),
        ("Kardiologie", "Kardio\u00adlogie"),
        ("Herz\u00a0Kreislauf", "Herz Kreislauf"), ("grün", "gr\u00c3\u00bcn"),
    ],
)  # fmt: skip
def test_twins_of_every_kind_look_alike_and_are_seen_to_differ(twins: tuple[str, ...]) -> None:
    assert [set(group) for group in look_alikes([*twins, "something else"])] == [set(twins)]
    shown = {spelled(twin) for twin in twins}
    assert len(shown) == len(twins) and {meant(one) for one in shown} == set(twins)


@pytest.mark.parametrize(
    "pair",
    [("AB-", "AB"), ("AB-", "AB+"), ("mg", "\u00b5g"), ("-1", "1"), (">5", "<5"), ("C50.1", "C501"),
     ("1-2", "12"),
     ("pos (+)", "pos (-)"), ("-", "+"), ("क्षय", "कषय"), ("1.5", "15"), ("T1", "T2")],
)  # fmt: skip
def test_what_medicine_tells_apart_does_not_look_alike(pair: tuple[str, str]) -> None:
    assert look_alikes(pair) == ()


def test_a_label_of_another_script_is_shown_as_it_is() -> None:
    assert spelled("Кардиология") == "Кардиология" and spelled("größer") == "größer"


def test_a_twin_that_nobody_can_type_is_renamed_by_what_is_shown(add: Add) -> None:
    table = labelled("A", "\u0410", "B")
    status, text = add(table, *NAMED, "--no-publish")
    assert status != 0 and "'A' / '<U+0410>'" in text
    status, text = add(table, *NAMED, "--rename-label", "<U+0410>=A", "--no-publish", "--json")
    assert status == 0 and set(json.loads(text)["card"]["labels"]) == {"A", "B"}


@pytest.mark.parametrize(
    "word",
    [
        "NaT",
        "<NA>",
        "\\N",
        "#REF!",
        "#WERT!",
        "#DIV/0!",
        "#NAME?",
        "#NV",
        "k. A.",
        "(leer)",
        "\uff2e\uff21",
        "–",
        "n.a.",
        "-99",
    ],
)
def test_every_programs_word_for_nothing_is_known(word: str) -> None:
    assert looks_missing(word) and not looks_missing(f"{word} more")


@pytest.mark.parametrize("word", ["unknown", "other", "#1", "Nan Goldin", "0", "no", "#fracture", "-1", "99"])
def test_a_class_of_its_own_is_no_word_for_nothing(word: str) -> None:
    assert not looks_missing(word)


@pytest.mark.parametrize(
    ("labels", "read", "questions"),
    [
        (("0.0", "1.0", "2.0"), {"0", "1", "2"}, ()),
        (("-1.0", "10.0"), {"-1", "10"}, ()),
        (("0.0", "1.0", "NA"), {"0", "1", "NA"}, ("missing-labels",)),
        (("0", "0.0", "1", "1.0"), {"0", "0.0", "1", "1.0"}, ("look-alikes",)),
        (("0.0", "01.0"), {"0.0", "01.0"}, ()),
        (("1.0", "1.5", "2.0"), {"1.0", "1.5", "2.0"}, ()),
        (("stage 1.0", "2.0"), {"stage 1.0", "2.0"}, ()),
    ],
)
def test_codes_are_whole_numbers_where_it_is_certain_and_asked_about_where_not(
    tmp_path: Any, labels: tuple[str, ...], read: set[str], questions: tuple[str, ...]
) -> None:
    found, rows = take(tmp_path, labelled(*labels))
    assert {row.label for row in rows} == set(found.labels) == read
    assert found.findings.questions() == questions


def test_codes_that_were_read_as_whole_numbers_are_said(add: Add) -> None:
    status, text = add(labelled("0.0", "1.0"), *NAMED, "--no-publish")
    assert status == 0 and "0.0 as 0, 1.0 as 1" in text
    status, text = add(labelled("0.0", "1.0"), *NAMED, "--name", "b", "--no-publish", "--json")
    assert json.loads(text)["codes"] == {"0.0": "0", "1.0": "1"}


@pytest.mark.parametrize(
    ("name", "data", "reported"),
    [
        ("a.csv", b"%PDF-1.7\n%\xe2\xe3\n", "a PDF document"),
        ("a.xls", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500), "an old Office file"),
        ("a.csv", b"7z\xbc\xaf\x27\x1c" + bytes(60), "a 7-Zip archive"),
        ("a.csv", bz2.compress(PLAIN.encode()), "bzip2"),
        ("a.csv.gz", gzip.compress(gzip.compress(PLAIN.encode())), "compressed twice"),
        ("a.csv", zipped("notes.csv"), "a zip archive"),
        ("a.ods", zipped("content.xml"), "OpenDocument"),
        ("a.xlsx", zipped("word/document.xml"), "a Word document"),
        ("a.xlsx", b"PK\x05\x06" + bytes(18), "an empty zip archive"),
        ("a.parquet", b"PARE" + bytes(40), "an encrypted Parquet file"),
        ("a.arrow", b"ARROW1\0\0" + bytes(300), "an Arrow (Feather) file"),
        ("a.xls", b"\xef\xbb\xbf<html><table><tr><td>text</td></tr></table></html>", "HTML or XML"),
        ("a.json", json.dumps([{"text": "a", "label": "b"}], indent=1).encode(), "a JSON array"),
        ("a.json", json.dumps({"text": {"0": "a"}, "label": {"0": "b"}}).encode(), "as pandas writes it"),
        ("a.json", json.dumps({"rows": [{"text": "a"}]}, indent=1).encode(), "over several lines"),
        ("a.json", json.dumps({"resourceType": "Bundle", "entry": []}).encode(), "a FHIR bundle"),
        ("a.hl7", b"MSH|^~\\&|KIS|A|||20240101||ORU^R01|1|P|2.5\r", "an HL7 message"),
        ("a.sas7bdat", bytes(12) + b"\xc2\xea\x81\x60" + bytes(500), "a SAS file"),
        ("a.dta", b"<stata_dta><header>" + bytes(500), "a Stata file"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_named(tmp_path: Any, name: str, data: bytes, reported: str) -> None:
    refusal = refused(tmp_path, data, name)
    assert refusal.code == "dataset.other_format" and reported in refusal.facts["what"]


def test_a_workbook_with_a_password_is_named(tmp_path: Any) -> None:
    data = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500) + "EncryptedPackage".encode("utf-16-le")
    assert refused(tmp_path, data, "a.xlsx").code == "dataset.locked"


@pytest.mark.parametrize(
    "data",
    {
        "a csv that is a workbook": workbook([("text", "label"), *ROWS]),
        "an xlsx that is a csv": PLAIN.encode(),
        "lone CR": PLAIN.replace("\n", "\r").encode(),
        "CR CR LF": PLAIN.replace("\n", "\r\r\n").encode(),
        "a blank behind each comma": PLAIN.replace(",", ", ").encode(),
        "lines of delimiters below": (PLAIN + ",\n,\n").encode(),
        "delimiters above": (",\n" + PLAIN).encode(),
        "two marks": codecs.BOM_UTF8 * 2 + PLAIN.encode(),
        "a separator line in quotes": ('"sep=,"\n' + PLAIN).encode(),
        "UTF-16, big end first": codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        "UTF-32": PLAIN.encode("utf-32"),
        "JSON lines in UTF-16": as_json_lines(ROWS).encode("utf-16"),
        "JSON with a number of 400 digits": as_json_lines(ROWS).replace("}", f', "id": {10**400}}}').encode(),
        "JSON with a name for nothing": as_json_lines(ROWS).replace("}", ', "": {"a": [1]}}').encode(),
        "large strings in a dictionary": parquet(
            pyarrow.array([label for _, label in ROWS], pyarrow.large_string()).dictionary_encode()
        ),
    }.items(),
    ids=lambda pair: pair[0],
)  # fmt: skip
def test_habits_of_programs_are_read_to_the_row(tmp_path: Any, data: tuple[str, bytes]) -> None:
    _, rows = take(tmp_path, data[1], "notes.csv" if "xlsx" not in data[0] else "notes.xlsx")
    assert [(row.text, row.label) for row in rows] == ROWS


@pytest.mark.parametrize("marked", [False, True])
def test_column_names_that_stand_there_again_are_no_row(tmp_path: Any, marked: bool) -> None:
    part = PLAIN.encode("utf-8-sig" if marked else "utf-8")
    refusal = refused(tmp_path, part * 6)
    assert isinstance(refusal, BadRows) and refusal.count == 5
    assert refusal.faults[0].line == 22 and "once more" in refusal.faults[0].reason
    assert len(take(tmp_path, part * 6, skip_bad=True)[1]) == 120
    twice = workbook([("text", "label"), *ROWS, ("text", "label")])
    assert refused(tmp_path, twice, "notes.xlsx").facts["lines"] == "22"


@pytest.mark.parametrize("encoding", ["windows-1252", "cp850", "mac-roman"])
def test_a_guessed_encoding_is_published_only_if_somebody_confirms_it(add: Add, encoding: str) -> None:
    table = labelled("größer", "kleiner").encode(encoding)
    status, text = add(table, *NAMED, "--yes")
    assert status != 0 and "dataset.unconfirmed_encoding" in text
    said = ["--encoding", encoding, "--no-publish", "--json"]
    status, text = add(table, *NAMED, *said, "--name", encoding)
    assert status == 0 and "größer" in json.loads(text)["card"]["labels"]


def test_an_encoding_that_cannot_be_guessed_is_asked_for(add: Add) -> None:
    """Each of its rows was named, in their thousands, and nobody said what was wrong."""
    table = labelled("grün", "rot").encode("cp850")  # its ü is no letter of windows-1252
    status, text = add(table, *NAMED, "--yes")
    assert status == 1 and "[dataset.foreign_encoding]" in text and "--encoding cp850" in text
    status, text = add(table, *NAMED, "--encoding", "cp850", "--no-publish", "--json")
    assert status == 0 and "grün" in json.loads(text)["card"]["labels"]


@pytest.mark.parametrize("hide", ["by hand", "by a filter", "a blank one"])
def test_rows_that_a_sheet_does_not_show_are_never_taken_in_silence(tmp_path: Any, hide: str) -> None:
    """Somebody filters for those who agreed: the others would have been trained on."""
    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        book.add_worksheet("empty").set_row(3, options={"hidden": True})
        sheet = book.add_worksheet("notes")
        for number, row in enumerate([("text", "label"), *ROWS]):
            sheet.write_row(number, 0, row)
        if hide == "by a filter":
            sheet.autofilter(0, 0, len(ROWS), 1)
        sheet.set_row(len(ROWS) + 3 if hide == "a blank one" else 5, options={"hidden": True})
    if hide == "a blank one":
        assert len(take(tmp_path, out.getvalue(), "notes.xlsx")[1]) == len(ROWS)
        return
    refusal = refused(tmp_path, out.getvalue(), "notes.xlsx")
    assert (refusal.code, refusal.facts) == ("dataset.hidden_rows", {"rows": 1, "first": 6})


def test_a_person_at_a_terminal_is_asked_about_a_guessed_encoding(tmp_path: Any) -> None:
    intake, _ = take(tmp_path, labelled("größer", "kleiner").encode("cp1252"), text="text", label="label")
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return "y"

    require_answers(intake, [], ask)
    assert len(asked) == 1 and "windows-1252" in asked[0]
    with pytest.raises(Refusal, match="unconfirmed_encoding"):
        require_answers(intake, [], lambda question: "")


def test_what_is_undecided_is_told_as_json_too(tmp_path: Any, capsys: Any) -> None:
    file = tmp_path / "notes.csv"
    file.write_text(labelled("red", "Red"))
    status = main(["--state", str(tmp_path / "s"), "dataset", "add", str(file), *NAMED, "--json", "--yes"])
    reported = json.loads(capsys.readouterr().out)
    assert status == 1 and reported["refused"] == "dataset.unanswered"
    assert reported["questions"] == ["look-alikes"] and reported["published_as"] is None
    assert reported["findings"]["look_alikes"] == [["Red", "red"]]


@pytest.mark.parametrize(
    ("label", "code"),
    [
        (pyarrow.array([date(2026, 1, 1 + n % 2) for n in range(20)]), "dataset.column_type"),
        (pyarrow.array([{"a": n % 2} for n in range(20)]), "dataset.column_type"),
        (pyarrow.array([n % 2 + 0.5 for n in range(20)]), "dataset.bad_rows"),
        (pyarrow.array([None] * 20), "dataset.bad_rows"),
        (pyarrow.array([float("inf")] * 20), "dataset.bad_rows"),
        (pyarrow.array([n % 2 for n in range(20)], pyarrow.int8()), None),
        (pyarrow.array([float(n % 2) for n in range(20)], pyarrow.float32()), None),
    ],
)
def test_parquets_types_of_label_are_read_or_named(tmp_path: Any, label: Any, code: str | None) -> None:
    if code is None:
        rows = take(tmp_path, parquet(label), "notes.parquet", text="text", label="label")[1]
        assert {row.label for row in rows} == {"0", "1"}
    else:
        assert refused(tmp_path, parquet(label), "notes.parquet", text="text", label="label").code == code


@pytest.mark.parametrize("cut", [-1, -9, 500, 100, 4])
def test_a_parquet_file_that_ends_too_early_is_damaged(tmp_path: Any, cut: int) -> None:
    data = parquet([label for _, label in ROWS])[:cut]
    assert refused(tmp_path, data, "notes.parquet").code == "dataset.damaged"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-7", "idna"])
def test_an_encoding_that_is_said_and_is_not_that_of_the_file_is_refused(
    tmp_path: Any, encoding: str
) -> None:
    table = labelled("größer", "kleiner").encode("cp1252")
    assert refused(tmp_path, table, encoding=encoding).code in (
        "dataset.unknown_encoding",
        "dataset.bad_rows",
    )
