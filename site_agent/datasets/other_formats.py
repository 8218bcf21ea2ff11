"""What a file is that is none of ours, by its first bytes: so that it is named instead of misread."""

from __future__ import annotations

import codecs
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
    b"\x1f\x9d": "compressed with compress (.Z)",
    b"\x04\x22\x4d\x18": "compressed with LZ4",
    b"PK\x03\x04": "a zip archive or workbook inside of gzip: unpack it first",
    b"PAR1": "a Parquet file inside of gzip: unpack it first",
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
    b"r\x02\x01\x00": "a Stata file (.dta)",
    b"s\x02\x01\x00": "a Stata file (.dta)",
    b"FEA1": "an Arrow (Feather) file",
    b"ORC\x00": "an ORC file",
    b"Obj\x01": "an Avro file",
    b"\x93NUMPY": "a NumPy array",
    b"X\n\x00\x00\x00": "an R file (.rds)",
    b"RDX": "an R file (.RData)",
    b"\x00\x01\x00\x00Standard ": "an Access database",
    b"-----BEGIN PGP MESSAGE": "encrypted with PGP: decrypt it here on this machine",
    b"age-encryption.org/": "encrypted with age: decrypt it here on this machine",
    b"Salted__": "encrypted with OpenSSL: decrypt it here on this machine",
    b"version https://git-lfs": "a pointer of Git LFS, not the file: git lfs pull fetches it",
}
_MARKUP = ("<!doctype", "<html", "<?xml", "<table", "<!--")
_OBJECTS = {
    r"\{\s*\"resourcetype\"\s*:\s*\"bundle\"": "a FHIR bundle: export its resources as rows of a table",
    r"\{\s*\"[^\"]*\"\s*:\s*\{\s*\"0\"\s*:": "a JSON object of columns, as pandas writes it: "
    "to_json(orient='records', lines=True) writes one object a line",
    r"\{[ \t]*\r?\n[ \t]*\"": "a JSON document over several lines: jq -c . makes one line of each object",
}
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")


_LATER = {257: (b"ustar", "a tar archive: unpack it first"), 128: (b"DICM", "a DICOM file")}
_CONTROLS = bytes([*range(2, 9), *range(0x0E, 0x1A), 0x1B, 0x7F])
"""Bytes that no text holds in number; not those that end a line, a page or, in DOS, a file, nor the one that
Hive puts between columns."""


def refuse_other(sample: bytes, file: str) -> None:
    """Raises: `dataset.other_format`, which names it, or `dataset.locked`."""
    for magic, what in _MAGIC.items():
        if sample.startswith(magic):
            if _ENCRYPTED in sample:
                raise Refusal("dataset.locked", file=file)
            if magic == b"BZh" and sample[4:8] != b"1AY&":
                continue
            raise Refusal("dataset.other_format", file=file, what=what)
    for place, (magic, what) in _LATER.items():
        if sample.startswith(magic, place):
            raise Refusal("dataset.other_format", file=file, what=what)


def refuse_binary(sample: bytes, file: str) -> None:
    """Raises: `dataset.unknown_format` for what is no text in any encoding that a table comes in."""
    head = sample[:8192]
    if sum(map(head.count, _CONTROLS)) <= len(head) // 50:
        return
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeError:
        raise Refusal("dataset.unknown_format", file=file) from None


def refuse_other_text(text: str, file: str) -> None:
    """Raises: `dataset.other_format` for markup, and JSON that is not one object a line for each row."""
    start = text[:200].lstrip("\ufeff \t\r\n").lower()
    if form := next((form for shape, form in _OBJECTS.items() if re.match(shape, start)), None):
        raise Refusal("dataset.other_format", file=file, what=form)
    if start.startswith(_MARKUP):
        what = "HTML or XML, as some programs write it under the name of a table"
        raise Refusal("dataset.other_format", file=file, what=what)
    if re.match(r"\[\s*[\[{\"\d]", start):
        what = "a JSON array: jq -c '.[]' makes JSON lines of it, one object a line"
        raise Refusal("dataset.other_format", file=file, what=what)


def other_archive(members: Collection[str]) -> str:
    """What a zip archive without a workbook is."""
    if "word/document.xml" in members:
        return "a Word document"
    if "content.xml" in members or "mimetype" in members:
        return "an OpenDocument file (.ods)"
    if "xl/workbook.bin" in members:
        return "a binary workbook (.xlsb): save it as .xlsx"
    return "a zip archive: unpack it first"
