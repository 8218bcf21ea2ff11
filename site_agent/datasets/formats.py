"""What a file is: compressed or not, its format, its encoding and its delimiter, read from its bytes.

The name only breaks a tie (`.tsv`). Nothing is decoded by a guess that the bytes do not support: a file that
is not UTF-8 counts as windows-1252 only if no line of it is UTF-8 beyond ASCII, and the guess is shown.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, cast

from contracts.refusal import Refusal
from site_agent.datasets.conll import is_conll
from site_agent.datasets.other_formats import refuse_binary, refuse_other, refuse_other_text

MAX_FILE_BYTES = 4 << 30
MAX_CONTENT_BYTES = 16 << 30
MAX_FIELD = 4 << 20
SAMPLE_BYTES = 1 << 20
DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}

_EXCEL_SEPARATOR = re.compile(r"\ufeff?\"?sep=([,;|\t])\"?[ \t]*\r?\n", re.IGNORECASE)
"""Excel's own first line, which names the delimiter."""

FormatName = Literal["jsonl", "delimited", "parquet", "xlsx", "conll"]


@dataclass(frozen=True)
class Format:
    """How to read a file. `encoding`, `delimiter` and `quotes` are empty or False where they mean nothing;
    `skip` is the number of lines above a table's header; `spaced`, that a blank follows each delimiter."""

    name: FormatName
    compressed: bool = False
    encoding: str = ""
    encoding_guessed: bool = False
    delimiter: str = ""
    quotes: bool = False
    skip: int = 0
    spaced: bool = False

    def __str__(self) -> str:
        if self.name == "parquet":
            return "Parquet"
        if self.name == "xlsx":
            return "Excel workbook"
        kind = "words and tags, a line each (CoNLL)" if self.name == "conll" else "JSON lines"
        if self.name == "delimited":
            kind = f"table with {DELIMITERS.get(self.delimiter, self.delimiter)}s between the columns"
            kind += "" if self.quotes else ", quotes are part of the text"
        guess = (
            " (inferred: it is not UTF-8; say --encoding if this is wrong)" if self.encoding_guessed else ""
        )
        above = f", {self.skip} line(s) above the header skipped" if self.skip else ""
        return f"{kind}, {self.encoding}{guess}{above}" + (", gzip" if self.compressed else "")


class _Bounded(io.RawIOBase):
    """A stream that refuses to grow past the limit (a small gzip file can unpack to any size)."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._left = MAX_CONTENT_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._source.read(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Refusal("dataset.damaged") from error
        self._left -= len(data)
        if self._left < 0:
            raise Refusal("dataset.too_large", limit=MAX_CONTENT_BYTES >> 30)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._source.close()
        super().close()


def open_content(path: Path, compressed: bool) -> BinaryIO:
    """The file's bytes, unpacked if it is a gzip file.

    Reading refuses with `dataset.damaged` or `dataset.too_large`."""
    # _Bounded closes the file when it is closed itself.
    source = cast(IO[bytes], gzip.open(path, "rb")) if compressed else path.open("rb")  # noqa: SIM115
    return io.BufferedReader(_Bounded(source), 1 << 16)


def open_text(path: Path, found: Format, newline: str) -> io.TextIOWrapper:
    """The file's text. A byte that is not valid in the encoding becomes a lone surrogate, so that it can be
    reported with its line instead of ending the reading (`surrogateescape`)."""
    return io.TextIOWrapper(
        open_content(path, found.compressed),
        encoding=found.encoding,
        errors="surrogateescape",
        newline=newline,
    )


def detect(path: Path, encoding: str | None = None, skip: int = 0) -> Format:
    """Look at the beginning of the file. `encoding` and `skip` (lines above the header) are what people say.

    Raises: `dataset.unreadable`, `.too_large`, `.empty`, `.damaged`, `.unknown_format`, `.other_format`,
    `.locked`, `.unknown_encoding`, `.foreign_encoding`, `.looks_utf16`.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise Refusal("dataset.unreadable", file=path.name, fault=error.strerror or "unknown") from error
    if size > MAX_FILE_BYTES:
        raise Refusal("dataset.too_large", limit=MAX_FILE_BYTES >> 30)
    if magic == b"PAR1":
        return Format("parquet")
    if magic == b"PK\x03\x04":
        return Format("xlsx", skip=skip)
    compressed = magic[:2] == b"\x1f\x8b"
    with open_content(path, compressed) as content:
        sample = content.read(SAMPLE_BYTES)
    refuse_other(sample, path.name)
    if encoding is None and not sample.startswith(tuple(_MARKS)):
        _refuse_unmarked(sample)
        refuse_binary(sample, path.name)
    name, guessed = _encoding(sample, encoding)
    text = _decoded_sample(sample, name)
    if not text.strip():
        raise Refusal("dataset.empty", file=path.name)
    refuse_other_text(text, path.name)
    if text.lstrip()[0] == "{":
        return Format("jsonl", compressed, name, guessed)
    if is_conll(text):
        return Format("conll", compressed, name, guessed)
    if "\x00" in text[:200]:
        raise Refusal("dataset.unknown_format", file=path.name)
    said = _EXCEL_SEPARATOR.match(text)
    skip += said is not None
    text = "".join(text.splitlines(keepends=True)[skip:])
    if not text.strip():
        raise Refusal("dataset.empty", file=path.name)
    tabs_first = ".tsv" in (suffix.lower() for suffix in path.suffixes)
    delimiter = said[1] if said else _delimiter(text, tabs_first)
    quotes = delimiter != "\t" or _quotes_are_sound(text, delimiter)
    return Format("delimited", compressed, name, guessed, delimiter, quotes, skip, _spaced(text, delimiter))


def _refuse_unmarked(sample: bytes) -> None:
    """UTF-16 or UTF-32 without its mark is full of zero bytes, and is text once it is read so."""
    head = sample[:2000]
    if head.count(0) > len(head) // 3:
        for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
            text = head.decode(encoding, "replace")[:-1]
            latin = sum(sign < "\u0250" and (sign.isprintable() or sign.isspace()) for sign in text)
            if latin > 7 and latin > 0.8 * len(text):
                raise Refusal("dataset.looks_utf16", encoding=encoding)


_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The longer ones first: that of UTF-32 begins with that of UTF-16."""


def _encoding(sample: bytes, said: str | None) -> tuple[str, bool]:
    for mark, name in _MARKS.items():
        if sample.startswith(mark) and said is None:
            return name, False
    if said is not None:
        try:
            name = codecs.lookup(said).name
            "text".encode(name).decode(name)
        except (LookupError, ValueError) as error:
            raise Refusal("dataset.unknown_encoding", encoding=said[:40]) from error
        return ("utf-8-sig" if name == "utf-8" else name), False
    beyond_ascii = [line for line in sample.split(b"\n")[:-1] or [sample] if not line.isascii()]
    sound = [line for line in beyond_ascii if _decodes(line, "utf-8")]
    if beyond_ascii and not sound and all(_decodes(line, "windows-1252") for line in beyond_ascii):
        return "windows-1252", True
    if len(beyond_ascii) > 2 and not sound:
        raise Refusal("dataset.foreign_encoding", lines=len(beyond_ascii))
    return "utf-8", False


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True


def _decoded_sample(sample: bytes, encoding: str) -> str:
    try:
        return codecs.getincrementaldecoder(encoding)("surrogateescape").decode(sample)
    except UnicodeError as error:
        raise Refusal("dataset.unknown_encoding", encoding=encoding) from error


def _delimiter(text: str, tabs_first: bool) -> str:
    """The delimiter that cuts the header into the most columns."""
    header = next(line for line in text.splitlines() if line.strip())
    order = ["\t", ",", ";", "|"] if tabs_first else [",", "\t", ";", "|"]
    return max(order, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter), [])))


def _spaced(text: str, delimiter: str) -> bool:
    """Whether a blank follows each delimiter of the header: then it belongs to the delimiter in every row."""
    header = next(line for line in text.splitlines() if line.strip())
    return 0 < header.count(delimiter) == header.count(f"{delimiter} ")


def _quotes_are_sound(text: str, delimiter: str) -> bool:
    """Whether quotes follow RFC 4180. Tab-separated files often have no quoting at all, and a quotation mark
    in them is only a mark."""
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        # The sample may end inside of a quoted field; anything else is a mark in the text.
        return "unexpected end of data" in str(error) and len(text) >= SAMPLE_BYTES
    return True
