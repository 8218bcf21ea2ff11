"""More of what people send: other programs' words for nothing, labels, files and ends of files. And no long
silence while a file is read."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import time
import zipfile
from typing import Any

import pytest
import xlsxwriter

from contracts.labels import look_alikes, meant, spelled
from site_agent import pulse
from site_agent.datasets.catalogue import Catalogue
from site_agent.datasets.missing import looks_missing
from tests.site_agent.test_dataset_gate import NAMED, Add, add, workbook
from tests.site_agent.test_dataset_reading import as_json_lines, refused, take
from tests.site_agent.test_dataset_siblings import PLAIN, ROWS, parquet

__all__ = ["add"]


@pytest.mark.parametrize(
    "word",
    ["n/d", "N.D.", "#N/D", "not available", "<NULL>", "[null]", "(empty)", "NULL;", "None.", "np.nan",
     "pd.NA", "N\\A", "..", "...", "___", "##", "??", "{}", "[]", "\u2212", "\u2015", "-99.0", "k.A", "n. v.",
     "nicht angegeben", "non renseigné", "#¡REF!", "#¿NOMBRE?", "#\u0417\u041d\u0410\u0427!", "#GETTING_DATA",
     "####", "&nbsp;", "N\u200b/A"],
)  # fmt: skip
def test_other_programs_and_languages_have_words_for_nothing_too(word: str) -> None:
    assert looks_missing(word)


@pytest.mark.parametrize(
    "label",
    [
        "+",
        "++",
        "(+)",
        "*",
        "<",
        ">",
        "<5",
        "not applicable",
        "normal",
        "9999",
        "n",
        "A&E",
        "#2",
        "AB-",
        "ND+",
    ],
)
def test_what_laboratories_write_is_no_word_for_nothing(label: str) -> None:
    assert not looks_missing(label)


@pytest.mark.parametrize(
    "twins",
    [
        ("Gef\u00e4\u00df", "Gefaess"), ("Notf\u00e4lle", "Notfaelle"), ("\u0141ódź", "lodz"),
        ("k\u00f8n", "koen"),
        ("Ear & nose", "Ear &amp; nose", "Ear &#38; nose"), ('"red"', "red", "'red'", '="red"'),
        ("'001", "1", '="001"'), ("\u062d\u0640\u0645\u0649", "\u062d\u0645\u0649"),
        ("\u0639\u0644\u064a", "\u0639\u0644\u06cc"), ("1", "\u0e51", "\u2460"), ("II", "\u2161"),
        ("re\u200dd", "red"),
    ],
)  # fmt: skip
def test_more_twins_look_alike_and_are_seen_to_differ(twins: tuple[str, ...]) -> None:
    assert [set(group) for group in look_alikes([*twins, "something else"])] == [set(twins)]
    shown = {spelled(twin) for twin in twins}
    assert len(shown) == len(twins) and {meant(one) for one in shown} == set(twins)


@pytest.mark.parametrize(
    "pair", [("5'", "5"), ("St. John's", "St. Johns"), ("O'Neill", "ONeill"), ("R&D", "RD"), ("ae", "e")]
)
def test_what_only_holds_a_quote_or_an_e_does_not_look_alike(pair: tuple[str, str]) -> None:
    assert look_alikes(pair) == () and spelled("Łódź") == "Łódź"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", PLAIN + "\x1a"),
        ("a.csv", PLAIN.replace("\n", "\r\n") + "\x1a"),
        ("a.jsonl", as_json_lines(ROWS) + "\x1a"),
        ("a.jsonl", as_json_lines(ROWS).replace("\n", "\r")),
        ("a.jsonl", "".join(f"\x1e{line}\n" for line in as_json_lines(ROWS).splitlines())),
        ("a.csv.gz", gzip.compress(PLAIN.replace("\n", "\r").encode()) + bytes(64)),
    ],
    ids=["DOS", "DOS, CR LF", "DOS, JSON", "JSON, CR", "JSON sequence", "gzip, CR, padded"],
)
def test_other_ends_of_lines_and_files_are_read_to_the_row(tmp_path: Any, name: str, data: Any) -> None:
    assert [(row.text, row.label) for row in take(tmp_path, data, name)[1]] == ROWS


def test_fields_of_objects_are_columns_as_the_first_row_has_them(tmp_path: Any) -> None:
    """One that a later row lacks is empty there, and a name with a dot of its own stays what it was."""
    lines = [
        {"note": {"text": {"de": text}, "of": 1}, "output": {"code": label}, "note.of": 5}
        for text, label in ROWS
    ]
    data = "".join(f"{json.dumps(line)}\n" for line in lines)
    columns = {"text": "note.text.de", "label": "output.code"}
    _, found = take(tmp_path, data, "a.jsonl", **columns)
    assert [(row.text, row.label) for row in found] == ROWS
    lacking = json.dumps({"note": {}, "output": {"code": ROWS[0][1]}, "note.of": 5})
    refusal = refused(tmp_path, f"{data}{lacking}\n", "a.jsonl", **columns)
    assert (refusal.code, refusal.facts) == ("dataset.bad_rows", {"count": 1, "lines": str(len(ROWS) + 1)})


def member(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, "")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "reported"),
    [
        (bytes(257) + b"ustar\x0000" + bytes(500), "a tar archive"),
        (gzip.compress(workbook([("text", "label"), *ROWS])), "workbook inside of gzip"),
        (gzip.compress(parquet(["a"] * 20)), "a Parquet file inside of gzip"),
        (b"\x04\x22\x4d\x18" + PLAIN.encode(), "LZ4"),
        (b"FEA1" + bytes(300), "Feather"),
        (b"ORC\x00" + bytes(300), "ORC"),
        (b"\x00\x01\x00\x00Standard Jet DB\x00" + bytes(300), "an Access database"),
        (b"s\x02\x01\x00" + bytes(300), "a Stata file"),
        (gzip.compress(b"X\n\x00\x00\x00\x03" + bytes(300)), "an R file"),
        (bytes(128) + b"DICM" + bytes(300), "DICOM"),
        (b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n", "encrypted with PGP"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
        (member("xl/workbook.bin"), "xlsb"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_more_files_of_another_kind_are_named(tmp_path: Any, data: bytes, reported: str) -> None:
    """Many of them were told to be UTF-16 without a mark, as they are full of zeros."""
    refusal = refused(tmp_path, data)
    assert refusal.code == "dataset.other_format" and reported in refusal.facts["what"]


@pytest.mark.parametrize("data", [bytes(3000), b"\x03\x7c" + bytes(3000), random.Random(1).randbytes(4000)])
def test_bytes_that_are_no_text_are_not_taken_for_a_table(tmp_path: Any, data: bytes) -> None:
    assert refused(tmp_path, data).code == "dataset.unknown_format"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_the_encoding_without_its_mark_is_the_right_one(tmp_path: Any, encoding: str) -> None:
    data = PLAIN.encode(encoding)
    assert refused(tmp_path, data).facts["encoding"] == encoding
    assert len(take(tmp_path, data, encoding=encoding)[1]) == len(ROWS)


@pytest.mark.parametrize("how", ["rows without numbers", "in another folder"])
def test_hidden_rows_are_found_however_the_sheet_is_written(tmp_path: Any, how: str) -> None:
    plain, out = io.BytesIO(), io.BytesIO()
    with xlsxwriter.Workbook(plain) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate([("text", "label"), *ROWS]):
            sheet.write_row(number, 0, row)
        sheet.set_row(len(ROWS), options={"hidden": True})  # the last one
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            part = source.read(name)
            if how == "in another folder":
                name, part = (
                    name.replace("worksheets/", "w/"),
                    part.replace(b"worksheets/sheet", b"w/sheet"),
                )
            else:
                part = re.sub(rb'<row r="\d+"', b"<row", part)
            target.writestr(name, part)
    refusal = refused(tmp_path, out.getvalue(), "notes.xlsx")
    assert (refusal.code, refusal.facts) == ("dataset.hidden_rows", {"rows": 1, "first": 21})


def test_what_takes_long_says_so_and_leaves_the_answer_alone(add: Add, monkeypatch: Any) -> None:
    """A million rows took two minutes, the last of them in silence; with --only-site all of them."""
    for slow in ("draft", "relatives", "keep"):
        real = getattr(Catalogue, slow)
        monkeypatch.setattr(Catalogue, slow, lambda *said, real=real: (time.sleep(0.1), real(*said))[1])
    monkeypatch.setattr(pulse, "EVERY", 0.02)
    status, text = add(PLAIN, *NAMED, "--no-publish", "--json")
    answer, _, signs = text.rpartition("}\n")
    assert status == 0 and json.loads(answer + "}")["card"]["rows"] == len(ROWS)
    for stage in ("Reading and checking: ", "Comparing with the datasets of before: ", "Keeping: "):
        assert re.search(rf"^{stage}0 s …$", signs, re.MULTILINE), text


def test_a_sign_of_life_counts_rows_and_outlives_a_closed_stream(monkeypatch: Any) -> None:
    monkeypatch.setattr(pulse, "EVERY", 0.01)
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    with pulse.Pulse("Reading") as beat:
        beat.rows(12_000)
        time.sleep(0.1)
        said = out.getvalue()
        out.close()
        time.sleep(0.05)
    assert "Reading: 12,000 rows, 0 s …\n" in said
