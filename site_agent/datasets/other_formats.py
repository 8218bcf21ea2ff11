"""What a file is that is none of ours, by its first bytes: so that it is named instead of misread."""

from __future__ import annotations

import re
from collections.abc import Collection

from contracts.refusal import Refusal

_MAGIC = {
    b"%PDF-": "a PDF document",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office file (.xls), not what Excel writes now (.xlsx)",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"PK\x05\x06": "an empty zip archive",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"BZh": "compressed with bzip2",
    b"\x1f\x8b": "compressed twice",
    b"ARROW1": "an Arrow (Feather) file",
    b"PARE": "an encrypted Parquet file",
    b"SQLite format 3\x00": "an SQLite database",
    b"\x89HDF\r\n": "an HDF5 file",
    b"$FL": "an SPSS file (.sav)",
    b"{\\rtf": "an RTF document",
    bytes(12) + b"\xc2\xea\x81\x60": "a SAS file (.sas7bdat)",
    b"HEADER RECORD*******": "a SAS transport file (.xpt)",
    b"<stata_dta>": "a Stata file (.dta)",
    b"MSH|^": "an HL7 message",
    b"\x0bMSH|^": "an HL7 message",
}
_MARKUP = ("<!doctype", "<html", "<?xml", "<table", "<!--")
_OBJECTS = {
    r"\{\s*\"resourcetype\"\s*:\s*\"bundle\"": "a FHIR bundle: export its resources as rows of a table",
    r"\{\s*\"[^\"]*\"\s*:\s*\{\s*\"0\"\s*:": "a JSON object of columns, as pandas writes it: "
    "to_json(orient='records', lines=True) writes one object a line",
    r"\{[ \t]*\r?\n[ \t]*\"": "a JSON document over several lines: jq -c . makes one line of each object",
}
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")


def refuse_other(sample: bytes, file: str) -> None:
    """Refuses with `dataset.other_format`, which names it, or `dataset.locked`."""
    for magic, what in _MAGIC.items():
        if sample.startswith(magic):
            if _ENCRYPTED in sample:
                raise Refusal("dataset.locked", file=file)
            if magic == b"BZh" and sample[4:8] != b"1AY&":
                continue
            raise Refusal("dataset.other_format", file=file, what=what)


def refuse_other_text(text: str, file: str) -> None:
    """Refuses with `dataset.other_format` markup, and JSON that is not one object a line for each row."""
    start = text[:200].lstrip("\ufeff \t\r\n").lower()
    if form := next((form for shape, form in _OBJECTS.items() if re.match(shape, start)), None):
        raise Refusal("dataset.other_format", file=file, what=form)
    if start.startswith(_MARKUP):
        what = "HTML or XML, as some programs write it under the name of a table"
        raise Refusal("dataset.other_format", file=file, what=what)
    if start.startswith("["):
        what = "a JSON array: jq -c '.[]' makes JSON lines of it, one object a line"
        raise Refusal("dataset.other_format", file=file, what=what)


def other_archive(members: Collection[str]) -> str:
    """What a zip archive without a workbook is."""
    if "word/document.xml" in members:
        return "a Word document"
    if "content.xml" in members or "mimetype" in members:
        return "an OpenDocument file (.ods)"
    return "a zip archive: unpack it first"
